"""Members of a field as they are asked for in memory, ``search.find_members``: no model is trained, nor torch read.

python -m benchmarks.stars_members FIELD.parquet OUT.parquet SEED
"""

from __future__ import annotations

import sys

import pandas as pd
from sciencevae.builtin.stars import DOMAIN
from sciencevae.builtin.stars.search import find_members

from sciencevae.config import load

if __name__ == "__main__":
    field, out, seed = sys.argv[1:]
    found = find_members(pd.read_parquet(field), load(DOMAIN, "own", [f"analyse.seed={seed}"]))
    found.to_parquet(out, index=False)
