"""Light behind a round hole: our propagation beside LightPipes, the same grid, in turns; how far both agree.

    benchmarks/peers/setup-optics       # once: .venv-optics, with LightPipes (arguments go to pip)
    python -m benchmarks.diffraction_optics [--quick]

Patterns a second of one thread's processor time: aperture, propagation, intensity. LightPipes' ``Forvard`` is the
paraxial propagator without a band limit, in double precision, one field at a time; ours the band-limited angular
spectrum, with a distance for each field, as many at once as fit a cache. Agreement: ‖I − I'‖/‖I'‖ over the middle
half of the grid, with LightPipes' staircase edge of the hole in ours too ("same hole"), and with ours, antialiased;
and of our precisions.
The last result is kept in benchmarks/results/diffraction_optics.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sciencevae.builtin.diffraction.optics import angular_spectrum

from benchmarks.diffraction_ours import DISTANCE, SIZE, WAVELENGTH, batch
from benchmarks.turns import HERE, Program, keep, spread, take_turns

PEERS_PYTHON = HERE.parent / ".venv-optics" / "bin" / "python"
SIZES = (256, 512, 1024)


def compared(n: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Rates and agreement on n×n points."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = [sys.executable, str(HERE / "diffraction_ours.py")]
        peer = [str(PEERS_PYTHON), str(HERE / "peers" / "lightpipes_optics.py")]
        programs = [Program("single", ours), Program("double", ours), Program("LightPipes", peer)]
        try:
            for program in programs:
                out = f"{folder / program.name}.npy"
                option = out if program.name == "LightPipes" else f"{program.name},{out}"
                program.launch(str(n), 1, option, folder / f"{program.name}.log")
            take_turns(programs, rounds, seconds)
        finally:
            for program in programs:
                program.stop()
        images = {program.name: np.load(folder / f"{program.name}.npy") for program in programs}
    hole, images["LightPipes"] = images["LightPipes"]
    field = torch.from_numpy(hole)[None].to(torch.complex128)
    images["same hole"] = angular_spectrum(field, SIZE / n, WAVELENGTH, DISTANCE)[0].abs().square().numpy()
    middle = slice(n // 4, 3 * n // 4)
    images = {name: image[middle, middle] for name, image in images.items()}
    single, double, peer_cpu = (
        [t / size for t in program.cpu]
        for program, size in zip(programs, (batch(n), batch(n), 1), strict=True)
    )

    def apart(a: str, b: str) -> float:
        return float(np.linalg.norm(images[a] - images[b]) / np.linalg.norm(images[b]))

    return {
        "n": n,
        "single_per_second": 1 / statistics.median(single),
        "double_per_second": 1 / statistics.median(double),
        "peer_per_second": 1 / statistics.median(peer_cpu),
        "single_ratio": spread(peer_cpu, single),
        "double_ratio": spread(peer_cpu, double),
        "difference": apart("double", "LightPipes"),
        "difference_same_hole": apart("same hole", "LightPipes"),
        "difference_of_precisions": apart("single", "double"),
        "peer_version": programs[2].versions["LightPipes"],
    }


def main() -> None:
    """Print the table and keep it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter turns; nothing is kept")
    quick = parser.parse_args().quick
    if not PEERS_PYTHON.exists():
        raise SystemExit("the peer's environment is missing: run benchmarks/peers/setup-optics")
    heads = ("n", "single/s", "double/s", "LightPipes/s", "ratio", "ratio", "apart", "same hole", "precision")
    print(" ".join(f"{head:>12}" for head in heads))
    rows = []
    for n in SIZES[:1] if quick else SIZES:
        row = compared(n, *((3, 0.3) if quick else (9, 1.0)))
        rows.append(row)
        rates = (row["single_per_second"], row["double_per_second"], row["peer_per_second"])
        ratios = (row["single_ratio"][0], row["double_ratio"][0])
        apart = (row["difference"], row["difference_same_hole"], row["difference_of_precisions"])
        cells = [f"{n}", *(f"{v:.1f}" for v in (*rates, *ratios)), *(f"{v:.1e}" for v in apart)]
        print(" ".join(f"{cell:>12}" for cell in cells))
    if not quick:
        keep("diffraction_optics", {"table": rows})


if __name__ == "__main__":
    main()
