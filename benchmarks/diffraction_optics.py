"""Light behind a round hole: our propagation beside LightPipes, the same grid, in turns; how far both agree.

    benchmarks/peers/setup-optics       # once: .venv-optics, with LightPipes (arguments go to pip)
    python -m benchmarks.diffraction_optics [--quick]

Patterns a second of one thread's processor time: aperture, propagation, intensity. LightPipes' ``Forvard`` is the
paraxial propagator without a band limit, in double precision, one field at a time; ours the band-limited angular
spectrum, eight distances at once. Agreement: ‖I − I'‖/‖I'‖ over the middle half of the grid, of which the aperture's
edge, drawn with and without antialiasing, is a part; hence beside it, that of our two precisions.
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

from benchmarks.diffraction_ours import BATCH
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
    middle = slice(n // 4, 3 * n // 4)
    images = {name: image[middle, middle] for name, image in images.items()}
    single, double, peer_cpu = (
        [t / size for t in program.cpu] for program, size in zip(programs, (BATCH, BATCH, 1), strict=True)
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
        "difference_of_precisions": apart("single", "double"),
        "peer_version": programs[2].versions["LightPipes"],
    }


def main() -> None:
    """Print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter turns; nothing is kept")
    quick = parser.parse_args().quick
    if not PEERS_PYTHON.exists():
        raise SystemExit("the peer's environment is missing: run benchmarks/peers/setup-optics")
    print(f"{'n':>5} {'single/s':>9} {'double/s':>9} {'LightPipes/s':>13} {'ratios':>12} {'apart':>8} {'precision':>10}")
    rows = []
    for n in SIZES[:1] if quick else SIZES:
        row = compared(n, *((3, 0.3) if quick else (9, 1.0)))
        rows.append(row)
        print(
            f"{n:5d} {row['single_per_second']:9.1f} {row['double_per_second']:9.1f} {row['peer_per_second']:13.1f} "
            f"{row['single_ratio'][0]:5.1f} {row['double_ratio'][0]:5.1f} {row['difference']:9.1e} "
            f"{row['difference_of_precisions']:9.1e}"
        )
    if not quick:
        keep("diffraction_optics", {"table": rows})


if __name__ == "__main__":
    main()
