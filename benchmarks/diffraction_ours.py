"""Our propagation as a program that ``diffraction_optics.py`` measures: round holes on n×n points, some at once.

PROBLEM  n · OPTION  PRECISION,FILE: single or double, and a file that the intensity of the first is written to
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "peers"))

import numpy as np
import torch
from pace import Pace
from sciencevae.builtin.diffraction import apertures, optics

WAVELENGTH, DISTANCE, DIAMETER, SIZE = 550e-9, 0.01, 400e-6, 2.56e-3


def batch(n: int) -> int:
    """Patterns at once: as many as fit a cache."""
    return max(1, 2**19 // n**2)


def pattern(n: int, dtype: torch.dtype) -> torch.Tensor:
    """Aperture, propagation and intensity of a batch, each with its own distance, (B, n, n)."""
    real = torch.float64 if dtype == torch.complex128 else torch.float32
    x = apertures.coordinates(n, SIZE / n, real)
    middle, diameter = torch.zeros(batch(n), 2, dtype=real), torch.full((batch(n),), DIAMETER, dtype=real)
    field = apertures.circle(x, x, SIZE / n, middle, diameter).to(dtype)
    distance = torch.full((batch(n),), DISTANCE, dtype=torch.float64)
    return optics.intensity(optics.angular_spectrum(field, SIZE / n, WAVELENGTH, distance))


def main() -> None:
    """Go on until told to stop."""
    from importlib.metadata import version

    n, threads, started = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    precision, out = sys.argv[4].split(",", 1)
    torch.set_num_threads(threads)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    dtype = {"single": torch.complex64, "double": torch.complex128}[precision]
    np.save(out, pattern(n, dtype)[0].numpy())
    pace = Pace(answers, started, {"torch": version("torch")})
    pace.warm_up = 3
    while True:
        pattern(n, dtype)
        pace()


if __name__ == "__main__":
    main()
