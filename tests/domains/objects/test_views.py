"""Pictures seen otherwise, and what a model makes of that."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sciencevae.builtin.objects.lessons import joined, lesson, seen_poses
from sciencevae.builtin.objects.networks import Aimed, even
from sciencevae.builtin.objects.scenes import SIZE, Camera
from sciencevae.builtin.objects.simulate import canonical, twin_of
from sciencevae.builtin.objects.views import augment, on_table, seen_through, wrapped
from sciencevae.builtin.objects.world import World
from torch import Tensor, nn

from sciencevae.batch import Batch
from sciencevae.config import load
from sciencevae.data.batches import InMemory
from sciencevae.registry import domain

ROWS = 40


def settings(*overrides: str):
    return load(domain("objects"), overrides=["variants={}", *overrides])


def marks(places: np.ndarray) -> Tensor:
    """Pictures of a spot of light on the table at each place, (N, 3, SIZE, SIZE)."""
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    seen = Camera().project(np.c_[places, np.zeros(len(places))])[:, :2]
    spots = [np.exp(-((columns - c) ** 2 + (rows - r) ** 2) / (2 * 2.0**2)) for c, r in seen]
    return torch.from_numpy(np.stack(spots)).float()[:, None].repeat(1, 3, 1, 1)


def spots(pictures: Tensor) -> Tensor:
    """Where on the table the light of a picture is, (N, 2)."""
    light = pictures[:, 0].double()
    weight = (light - 0.6 * light.amax((1, 2), keepdim=True)).clamp(min=0)
    weight = weight / weight.sum((1, 2), keepdim=True)
    at = torch.arange(SIZE) + 0.5
    pixels = torch.stack([(weight.sum(1) * at).sum(1), (weight.sum(2) * at).sum(1)], 1)
    return torch.from_numpy(Camera().on_table(pixels.numpy())).float()


def batch(realistic: bool) -> Batch:
    x = {
        "picture": torch.from_numpy(
            canonical(World(), "bracket", 17.0, -8.0, 0.7).transpose(2, 0, 1)
        ).float(),
        "twin": torch.from_numpy(twin_of(World(), "bracket", 17.0, -8.0, 0.7)).float(),
        "position": torch.tensor([17.0, -8.0]),
        "heading": torch.tensor([0.7]),
    }
    context = {"condition": torch.full((ROWS, 1), float(realistic))}
    return Batch({name: value.expand(ROWS, *value.shape) for name, value in x.items()}, context)


def test_what_is_moved_on_the_table_is_seen_where_it_is_said() -> None:
    places = np.random.default_rng(0).uniform(-35, 35, (ROWS, 2))
    turn, shift = torch.linspace(-0.3, 0.3, ROWS), torch.linspace(-12, 12, 2 * ROWS).reshape(ROWS, 2)
    seen = seen_through(marks(places), on_table(World(), turn, shift))
    c, s = turn.cos().numpy(), turn.sin().numpy()
    moved = (
        np.stack([c * places[:, 0] - s * places[:, 1], s * places[:, 0] + c * places[:, 1]], 1)
        + shift.numpy()
    )
    assert spots(seen).numpy() == pytest.approx(moved, abs=0.4)
    same = seen_through(marks(places), torch.eye(3))
    assert torch.allclose(same, marks(places), atol=1e-5)


def test_what_is_seen_through_no_number_is_none() -> None:
    """And has a gradient: that of torch's own function ends the process."""
    places = torch.eye(3).repeat(2, 1, 1)
    places[1, 0, 2] = torch.nan
    places.requires_grad_()
    seen = seen_through(marks(np.zeros((2, 2))), places)
    assert torch.isfinite(seen[0]).all()
    assert seen[1].isnan().all()
    seen.sum().backward()
    assert torch.isfinite(places.grad[0]).all()


@pytest.mark.parametrize("realistic", [False, True], ids=["mirrored", "moved"])
def test_twin_and_pose_go_along(realistic: bool) -> None:
    """The twin that goes along is the twin at the pose that is told: mirrored exactly, moved nearly."""
    x = augment(settings("views.randomised=false"))(batch(realistic), torch.Generator().manual_seed(0)).x
    assert isinstance(x, dict)
    assert 5 < (x["position"][:, 0] < 0).sum() < 35 or realistic
    assert (x["position"].std(0) > 3).all() or not realistic
    for twin, (across, along), (heading,) in zip(x["twin"], x["position"], x["heading"], strict=True):
        wanted = torch.from_numpy(twin_of(World(), "bracket", across.item(), along.item(), heading.item()))
        empty = torch.from_numpy(twin_of(World(), "bracket", 500.0, 0.0, 0.0))
        apart = (twin - wanted).abs().mean() / (wanted - empty).abs().mean()
        assert apart < (0.35 if realistic else 0.05)
        assert -math.pi <= heading <= math.pi


def test_a_print_is_on_the_table_alone() -> None:
    """Where the object stands nothing changes; where the table is, most pictures do, by factors."""
    from sciencevae.builtin.objects.views import _printed

    own = batch(False).x
    assert isinstance(own, dict)
    found = _printed(own["picture"], own["twin"], torch.Generator().manual_seed(1))
    twin = nn.functional.interpolate(own["twin"], size=(SIZE, SIZE))
    there = (twin[:, :1] - twin[:, 2:] > 0.2).expand(-1, 3, -1, -1)
    assert torch.equal(found[there], own["picture"][there])
    changed = (found != own["picture"]).flatten(1).any(1)
    assert 0.4 < changed.float().mean() < 0.8
    ratio = found / own["picture"]
    assert ratio.min() > 0
    assert ratio[changed].std() > 0.2
    unknown = torch.full_like(own["twin"], math.nan)
    assert torch.equal(_printed(own["picture"], unknown, torch.Generator().manual_seed(1)), own["picture"])


def test_an_even_picture_has_a_gradient() -> None:
    """As one that is white all over, in a light that is too bright."""
    picture = torch.ones(1, 3, SIZE, SIZE, requires_grad=True)
    even(picture).sum().backward()
    assert torch.isfinite(picture.grad).all()
    seen = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    centred = seen - seen.mean((2, 3), keepdim=True)
    assert torch.allclose(
        even(seen), centred / (centred.square().mean((1, 2, 3), keepdim=True).sqrt() + 0.02)
    )


def test_a_camera_that_stands_elsewhere_is_learnt() -> None:
    """From pictures through another camera and where the things in them are, the homography between both."""

    class Spot(nn.Module):
        out_features = 2

        def forward(self, picture: Tensor) -> Tensor:
            at = torch.linspace(-1, 1, SIZE)
            weight = picture[:, 0] ** 2 / (picture[:, 0] ** 2).sum((1, 2), keepdim=True)
            return torch.stack([(weight.sum(1) * at).sum(1), (weight.sum(2) * at).sum(1)], 1)

    random = np.random.default_rng(0)
    places = marks(random.uniform(-40, 40, (30, 2)))
    off = torch.eye(3) + torch.tensor([[0.0, 0.03, 0.06], [-0.02, 0.04, -0.05], [0.0, 0.01, 0.0]])
    elsewhere = seen_through(places, torch.linalg.inv(off))
    one = torch.ones(30, 1)
    aimed = Aimed(Spot())
    wanted = aimed({"picture": places}, 0 * one).detach()
    assert torch.allclose(wanted, Spot()(places), atol=1e-5)
    optimiser = torch.optim.Adam(aimed.parameters(), lr=3e-3)
    for _ in range(300):
        optimiser.zero_grad()
        lost = (aimed({"picture": elsewhere}, one) - wanted).square().sum()
        lost.backward()
        optimiser.step()
    assert torch.sqrt(lost / 30) < 0.005
    assert aimed.off.detach().numpy() == pytest.approx((off - torch.eye(3)).flatten()[:8].numpy(), abs=0.02)


class Reader(nn.Module):
    """A model that reads where the light is, with a twin at that pose; of dark pictures it knows nothing."""

    def encode(self, x, context):
        return SimpleNamespace(mean=x["picture"])

    def decode(self, pictures: Tensor):
        place = spots(pictures)
        dark = pictures.amax((1, 2, 3)) < 0.5
        place = torch.where(dark[:, None], 40 * torch.rand_like(place) - 20, place)
        heading = torch.full((len(place), 1), 0.3)
        twin = torch.from_numpy(
            np.stack([twin_of(World(), "tee", *p, 0.3 + math.pi / 2) for p in place.numpy()])
        ).float()
        return SimpleNamespace(
            fields={
                "position": SimpleNamespace(base_dist=SimpleNamespace(mean=place)),
                "heading": SimpleNamespace(loc=heading, concentration=torch.full_like(heading, 5.0)),
                "twin": SimpleNamespace(mean=twin),
            }
        )


def test_poses_of_views_are_those_of_the_picture_itself() -> None:
    places = np.random.default_rng(2).uniform(-30, 30, (ROWS, 2))
    found, ways, _ = seen_poses(World(), Reader(), marks(places), torch.ones(ROWS, 1), views=6, seed=0)
    assert found.shape == (6, ROWS, 2)
    assert found[0].numpy() == pytest.approx(places, abs=0.5)
    assert found.numpy() == pytest.approx(np.broadcast_to(places, found.shape), abs=4)
    assert (found - found[0]).square().mean().sqrt() < 1.2
    # the reader says the same heading whatever is turned: told as in the picture itself it differs by the turns
    headings = torch.atan2(ways[..., 1], ways[..., 0])
    assert torch.allclose(headings[0], torch.tensor(0.3), atol=1e-5)
    assert 0.1 < wrapped(headings[1:] - 0.3).std() < 0.2


def test_what_is_believed_teaches() -> None:
    """Pictures with light, which are read alike in all views, are believed; dark ones, which are not, are not."""
    torch.manual_seed(0)
    random = np.random.default_rng(3)
    places = random.uniform(-30, 30, (20, 2))
    unlabelled = marks(places)
    unlabelled[10:] *= 0.2

    def rows(pictures: Tensor, realistic: float, told: bool) -> Batch:
        n = len(pictures)
        twin = torch.full((n, 3, SIZE // 2, SIZE // 2), 0.0 if told else math.nan)
        pose = 0.0 if told and not realistic else math.nan
        x = {
            "picture": pictures,
            "twin": twin,
            "position": torch.full((n, 2), pose),
            "heading": torch.full((n, 1), pose),
        }
        return Batch(x, {"condition": torch.full((n, 1), realistic)})

    simulated = rows(marks(random.uniform(-30, 30, (60, 2))), 0.0, True)
    known = [simulated, rows(marks(places[:5]), 1.0, True)]
    chosen = settings("refit.believed=0.5").refit
    found = lesson(
        World(), Reader(), InMemory(joined([*known, rows(unlabelled, 1.0, False)])), chosen, seed=0
    )
    assert found is not None
    (block,) = found.blocks(1000)
    x, realistic = block.x, block.context["condition"][:, 0] == 1
    assert isinstance(x, dict)
    assert (~realistic).sum() == 30, "half of the simulated ones"
    assert torch.isfinite(x["position"][~realistic]).all()
    assert x["position"][realistic].isnan().all(), "a pose is learnt in simulation alone"
    assert torch.isfinite(x["twin"]).all()
    taught = realistic & (x["twin"].flatten(1) != 0).any(1)
    assert 0.2 < taught.float().mean() < 0.4
    assert (x["picture"][taught].amax((1, 2, 3)) > 0.5).all(), "no dark picture is believed"
    for picture, twin in zip(x["picture"][taught], x["twin"][taught], strict=True):
        number = int((unlabelled - picture).abs().sum((1, 2, 3)).argmin())
        wanted = twin_of(World(), "tee", *places[number], 0.3 + math.pi / 2)
        assert abs(twin.numpy() - wanted).mean() < 0.01, "the kind and the turn that were decoded"
    assert lesson(World(), Reader(), InMemory(joined(known)), chosen, seed=0) is None

    class Poses(Reader):
        def decode(self, pictures: Tensor):
            found = super().decode(pictures)
            del found.fields["twin"]
            return found

    (block,) = lesson(
        World(), Poses(), InMemory(joined([*known, rows(unlabelled, 1.0, False)])), chosen, seed=0
    ).blocks(1000)
    x, realistic = block.x, block.context["condition"][:, 0] == 1
    taught = realistic & torch.isfinite(x["position"]).all(1)
    assert 0.2 < taught.float().mean() < 0.4
    for picture, position in zip(x["picture"][taught], x["position"][taught], strict=True):
        number = int((unlabelled - picture).abs().sum((1, 2, 3)).argmin())
        assert position.numpy() == pytest.approx(places[number], abs=1.5)
    assert torch.allclose(x["heading"][taught], torch.tensor(0.3), atol=0.3)
    assert torch.isfinite(x["twin"][taught]).all(), "of which views see where the object is"
