"""Members of a field as they are asked for in memory, ``search.find_members``: no model is trained, nor torch read.

python -m benchmarks.stars_members FIELD.parquet OUT.parquet SEED
"""

from __future__ import annotations

import sys

import pandas as pd
from sciencevae.builtin.stars.search import MOTION_ERROR_MAX, find_members
from sciencevae.builtin.stars.settings import Analyse, Prepare, Stars

if __name__ == "__main__":
    field, out, seed = sys.argv[1:]
    settings = Stars(
        prepare=Prepare(motion_error_max_mas_yr=MOTION_ERROR_MAX), analyse=Analyse(seed=int(seed))
    )
    find_members(pd.read_parquet(field), settings).to_parquet(out, index=False)
