"""The generator's files: what is in them, and that a run is the same however many there are."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from sciencevae.builtin.fluids.simulate import KINDS, generate, main
from sciencevae.builtin.fluids.smoke import Smoke, random_scenes

from sciencevae.data.manifest import load_manifest
from sciencevae.errors import InputError

SMALL = {"frames": 4, "every": 3, "points": 16, "dt_s": 0.05}


def test_smoke_file_holds_what_the_solver_gives(tmp_path: Path) -> None:
    main([str(tmp_path / "a.h5"), "--runs", "3", "--frames", "4", "--every", "3", "--seed", "5",
          "--set", "points=16", "--set", "dt_s=0.05", "--set", "obstacles=true", "--set", "skip=2"])  # fmt: skip
    solver = Smoke(random_scenes(3, 5, obstacles=True), (16, 16), 1 / 16, 0.05)
    state = solver.start()
    for _ in range(2 + 3 * 3):
        state = solver.step(state)
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["density"][:, 3], state.density)
        np.testing.assert_array_equal(file["velocity"][:, 3], solver.centred(state))
        np.testing.assert_array_equal(file["solid"], solver.solid)
        np.testing.assert_allclose(file["time"], 0.05 * np.array([2, 5, 8, 11]))
        np.testing.assert_array_equal(file["buoyancy"], solver.scenes.buoyancy)
        assert [d.label for d in file["velocity"].dims] == ["run", "t", "component", "y", "x"]
        assert {name: file[name].attrs["units"] for name in ("velocity", "buoyancy", "x", "time", "inflow_v")} == {
            "velocity": "m/s", "buoyancy": "m/s2", "x": "m", "time": "s", "inflow_v": "m/s",
        }  # fmt: skip
        assert all("units" in dataset.attrs for dataset in file.values())
        assert file.attrs["boundary_x"] == "replicate"


@pytest.mark.parametrize("force", ["none", "kolmogorov", "ring"])
def test_a_run_is_the_same_however_many_there_are(tmp_path: Path, force: str) -> None:
    """Over the border of a batch, too; vorticity is the curl of velocity."""
    asked = {"kind": "spectral", **SMALL, "force": force, "viscosity": [1e-3, 1e-2], "skip": 1}
    for runs in (3, 18):
        generate(tmp_path / f"{runs}.h5", {**asked, "runs": runs}, seed=2)
    generate(tmp_path / "other.h5", {**asked, "runs": 3}, seed=3)
    with h5py.File(tmp_path / "18.h5") as many, h5py.File(tmp_path / "3.h5") as few:
        np.testing.assert_allclose(many["vorticity"][:3], few["vorticity"], atol=1e-4)
        np.testing.assert_array_equal(many["viscosity"][:3], few["viscosity"])
        assert len({field.tobytes() for field in many["vorticity"][:, 0]}) == 18
        u, v = torch.as_tensor(many["velocity"][()], dtype=torch.float64).unbind(2)
        k = torch.fft.fftfreq(16, 1 / 16) * 1j
        curl = torch.fft.ifft(torch.fft.fft(v, dim=-1) * k, dim=-1).real
        curl -= torch.fft.ifft(torch.fft.fft(u, dim=-2) * k[:, None], dim=-2).real
        np.testing.assert_allclose(curl, many["vorticity"], atol=1e-4)
        assert many.attrs["boundary_y"] == "periodic"
        with h5py.File(tmp_path / "other.h5") as other:
            first = {tuple(field[0, 0]) for field in few["vorticity"]}
            assert not first & {tuple(field[0, 0]) for field in other["vorticity"]}


def test_manifest_names_the_parameters_of_all_kinds(tmp_path: Path) -> None:
    recipe = load_manifest("fluids").file("fluids.h5").generate
    assert set(recipe.parameters) >= {"kind"}.union(*(defaults for defaults, _ in KINDS.values()))
    generate(tmp_path / "a.h5", {**recipe.parameters, **SMALL, "runs": 1}, recipe.seed)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file.attrs["kind"] == "spectral"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"kind": "smok"}, "did you mean 'smoke'"),
        ({"kind": "smoke", "viscosity": [1, 1]}, "the generator of smoke has no parameter 'viscosity'"),
        ({"kind": "smoke", "every": 0}, "every must be at least 1"),
        ({"kind": "smoke", "dt_s": 1.0}, "take at most"),
        ({"kind": "spectral", "dt_s": 1.0}, "take a time step of"),
        ({"kind": "spectral", "force": "wind"}, "did you mean|known: kolmogorov, none, ring"),
    ],
)
def test_what_cannot_be_made_is_named(tmp_path: Path, asked: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        generate(tmp_path / "x.h5", asked, 0)
    assert not (tmp_path / "x.h5").exists()
