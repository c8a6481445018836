"""LightPipes as a program that ``diffraction_optics.py`` measures: a round hole on n×n points, the light behind it.

PROBLEM  n · OPTION  a file that the hole and the intensity are written to, once
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version

import LightPipes as lp
import numpy as np
from pace import Pace

n, started, out = int(sys.argv[1]), float(sys.argv[3]), sys.argv[4]
WAVELENGTH, DISTANCE, DIAMETER, SIZE = 550e-9, 0.01, 400e-6, 2.56e-3


def hole() -> lp.Field:
    return lp.CircAperture(lp.Begin(SIZE, WAVELENGTH, n), DIAMETER / 2)


def pattern() -> np.ndarray:
    """As its manual has it: begin, aperture, propagate, intensity."""
    return lp.Intensity(lp.Forvard(hole(), DISTANCE))


answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
np.save(out, np.stack([np.abs(hole().field), pattern()]))
pace = Pace(answers, started, {"LightPipes": version("LightPipes"), "numpy": version("numpy")})
pace.warm_up = 5
while True:
    pattern()
    pace()
