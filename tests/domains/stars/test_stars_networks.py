"""The networks' geometry, and the domain's model as a whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sciencevae.builtin.stars import DOMAIN, kinematics
from sciencevae.builtin.stars.dataset import prepare
from sciencevae.builtin.stars.networks import StarDecoder, StarEncoder
from sciencevae.builtin.stars.settings import Stars

from sciencevae.data.batches import as_batches
from sciencevae.data.scaling import Scaling
from sciencevae.data.splits import with_splits

from .simulated import simulate, write_hip2

FIELD = {
    "loc": [0.4, 0.9, 0.3, 5.0, 2.0, -15.0, 12.0, 1.0],
    "scale": [0.1, 0.05, 0.1, 4.0, 30.0, 30.0, 1.0, 0.3],
    "centre": kinematics.directions(np.array(66.7), np.array(15.9)).tolist(),
    "radius_deg": 20.0,
}


def test_offsets_and_directions_are_inverse_and_agree_with_numpy() -> None:
    encoder = StarEncoder(FIELD, [8], 2, True).double()
    encoder.centre = torch.tensor(FIELD["centre"], dtype=torch.float64)
    direction = kinematics.directions(np.array([66.7, 50.0, 80.0]), np.array([15.9, 10.0, 30.0]))
    offsets = encoder.offsets(torch.tensor(direction))
    expected = kinematics.azimuthal(direction, np.array(FIELD["centre"])) / FIELD["radius_deg"]
    np.testing.assert_allclose(offsets.numpy(), expected, atol=1e-9)
    np.testing.assert_allclose(encoder.direction(offsets).numpy(), direction, atol=1e-12)


def test_one_latent_is_one_motion_everywhere() -> None:
    """The decoded proper motions of one z at different places converge like those of one space velocity."""
    torch.manual_seed(0)
    decoder = StarDecoder(FIELD, [16], 2, True)
    ra, dec = np.random.default_rng(0).uniform([50, 0], [85, 32], (40, 2)).T
    direction = kinematics.directions(ra, dec)
    with torch.no_grad():
        out = decoder(torch.randn(1, 2).expand(40, 2), torch.tensor(direction, dtype=torch.float32)).double()
    y = (out.numpy() * FIELD["scale"] + FIELD["loc"])[:, 3:6]
    velocity = kinematics.common_velocity(direction, y[:, 0], y[:, 1:]).value
    assert np.ptp(y[:, 0]) < 1e-4
    left = kinematics.perspective_residual(direction, y[:, 0], y[:, 1:], velocity)
    assert np.abs(left).max() < 1e-3 * max(1.0, float(np.linalg.norm(velocity)))


@pytest.mark.parametrize("prior", ["standard", "mixture"])
@pytest.mark.parametrize("perspective", [True, False])
def test_every_parameter_learns_with_missing_values(tmp_path: Path, prior: str, perspective: bool) -> None:
    settings = Stars.model_validate({"model": {"prior": prior, "perspective": perspective, "hidden": (8,)}})
    data = with_splits(
        prepare(settings, {"hip2.dat": write_hip2(simulate(30, 60), tmp_path / "hip2.dat")}, None),
        settings.prepare.fractions,
        0,
    )
    data.attrs["scaling"] = Scaling.fit(data).to_json()
    model = DOMAIN.build(settings, data)
    assert DOMAIN.objective is not None
    objective = DOMAIN.objective(settings, data)
    batch = next(iter(as_batches(data, split="train").epoch(0, 0, 32)))
    assert isinstance(batch.x, torch.Tensor)
    batch.x[:4, 3] = torch.nan  # stars without a parallax
    batch.x[4:8, 3:] = torch.nan  # two-parameter solutions
    model.check(batch)
    loss = objective(model, batch)
    loss.per_datum.sum().backward()
    assert torch.isfinite(loss.per_datum).all()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name
