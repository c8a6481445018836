"""The metrics of the MOSES package for a file of molecules: values and seconds, as JSON.

Its last release (0.3.1, 2021) imports modules that RDKit, NumPy and pandas have dropped since; they are given back
here, in its own process, and nothing else is changed. Its kept statistics are pickles and are not read: the
molecules to compare with are handed to it.
"""

import json
import os
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd

six = types.ModuleType("rdkit.six")
six.iteritems = lambda mapping: iter(mapping.items())
sys.modules["rdkit.six"] = six
for name, kind in (("float", float), ("int", int), ("bool", bool), ("object", object)):
    np.__dict__.setdefault(name, kind)
pd.DataFrame.append = lambda self, other, sort=False: pd.concat([self, other], sort=sort)

given = json.loads(Path(sys.argv[1]).read_text())
from moses.metrics.metrics import get_all_metrics  # noqa: E402  (after what it needs)

lists = {name: given[name] for name in ("test", "train")}
# no statistics are read where test_scaffolds is given, too; a few molecules cost nothing
lists["test_scaffolds"] = given["test"][:2]
get_all_metrics(
    given["new"][:5], k=[5], n_jobs=1, device="cpu", **lists | {"test": given["test"][:5]}
)  # warm
began = sum(os.times()[:4])  # with the processes that have ended
found = get_all_metrics(given["new"], k=[1000], n_jobs=1, device="cpu", **lists)
seconds = sum(os.times()[:4]) - began
print(json.dumps({"seconds": seconds, "found": {key: float(value) for key, value in found.items()}}))
