"""What decoders of categories, counts, outliers, grey values, named fields and images do, each on its own.

The contract of all parts together is in ``test_parts.py``.
"""

import functools
import math

import pytest
import torch
from torch import nn

import sciencevae as sv
from sciencevae.batch import Batch
from sciencevae.distributions.masked import observed_entries
from sciencevae.errors import InputError
from sciencevae.networks import Fields, Identity, Perceptron
from sciencevae.spec import describe, recorded
from sciencevae.training.settings import TrainingSettings
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.decoders.warp import warp
from sciencevae.vae.model import VAE

D, N, B, C, K = 2, 3, 6, 2, 3
H, W = 4, 5
FIELDS = {"flux": 3, "counts": 2, "kind": 1}


@recorded
class Shaped(nn.Module):
    """A network of flat vectors as one from shape to shape."""

    def __init__(self, network: nn.Module, shape: list[int]) -> None:
        super().__init__()
        self.network, self.shape = network, shape

    def forward(self, x, *condition):
        return self.network(x.flatten(1), *condition).unflatten(1, self.shape)


@recorded
class Split(nn.Module):
    """A trunk that gives each field its own entry."""

    def __init__(self, network: nn.Module, sizes: dict[str, int]) -> None:
        super().__init__()
        self.network, self.sizes = network, sizes

    def forward(self, z):
        return dict(zip(self.sizes, self.network(z).split(list(self.sizes.values()), 1), strict=True))


def net(out: int, in_features: int = D, condition: int = 0) -> Perceptron:
    return Perceptron(in_features, [5], out, activation="tanh", condition_features=condition)


def field_decoders(make) -> dict[str, decoders.Decoder]:
    return {
        "flux": decoders.Gaussian(make("flux", 3), scale="per-datum", intrinsic="learned", features=3),
        "counts": decoders.Poisson(make("counts", 2)),
        "kind": decoders.Categorical(make("kind", K), categories=K),
    }


def displacement(condition: int = 0) -> Shaped:
    return Shaped(net(2 * H * W, condition=condition), [2, H, W])


DECODERS = {
    "categorical": lambda: decoders.Categorical(net(K * N), K),
    "categorical, conditional": lambda: decoders.Categorical(net(K * N, D, C), K, conditional=True),
    "poisson": lambda: decoders.Poisson(net(N)),
    "poisson, exposed": lambda: decoders.Poisson(net(N, D, C), conditional=True),
    "negative binomial": lambda: decoders.NegativeBinomial(net(N)),
    "student": lambda: decoders.StudentT(net(2 * N), df=3.0),
    "student, learned": lambda: decoders.StudentT(net(2 * N), df="learned"),
    "logistics": lambda: decoders.MixtureOfLogistics(net(3 * 2 * N), components=2, levels=8),
    "joint": lambda: decoders.Joint(field_decoders(lambda name, out: net(out))),
    "joint, trunk": lambda: decoders.Joint(
        field_decoders(lambda name, out: net(out, 4)), net(4, D, C), conditional=True
    ),
    "joint, split": lambda: decoders.Joint(
        field_decoders(lambda name, out: Identity()),
        Split(net(3 + 2 + K), {"flux": 3, "counts": 2, "kind": K}),
    ),
    "warp": lambda: decoders.Warp(displacement(C), scale=0.5, conditional=True),
    "warp, learned": lambda: decoders.Warp(displacement(), scale="learned", channels=2),
}


def encoder_for(name: str) -> encoders.Gaussian:
    if name.startswith("joint"):
        network = Fields({field: net(3, 2 * n) for field, n in FIELDS.items()}, net(2 * D, 9))
    elif name.startswith("warp"):
        network = Shaped(net(2 * D, 2 * 2 * H * W), [2 * D])
    else:
        network = net(2 * D, 2 * N)
    return encoders.Gaussian(network, D, missing=True)


def batch_for(name: str, missing: bool = True) -> Batch:
    g = torch.Generator().manual_seed(3)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    def counts(high, *shape):
        return torch.randint(0, high, shape, generator=g)

    noise, condition, exposure = normal(B, 3).abs() + 0.1, normal(B, C), normal(B).abs() + 0.5
    context = {"condition": condition}
    family = name.partition(",")[0]
    if family == "categorical":
        x = counts(K, B, N)
    elif family in ("poisson", "negative binomial"):
        x = counts(9, B, N).double() if "exposed" in name else counts(9, B, N)
        context |= {"exposure": exposure} if "exposed" in name else {}
    elif family == "student":
        x = 2 * normal(B, N)
    elif family == "logistics":
        x = counts(8, B, N).double() / 7
    elif family == "joint":
        x = {"flux": normal(B, 3), "counts": counts(9, B, 2), "kind": counts(K, B, 1)}
        context |= {"noise.flux": noise}
    else:
        x = normal(B, 2, H, W)
        context |= {"source": normal(B, 2, H, W)}
    if missing:
        for values in [x] if isinstance(x, torch.Tensor) else x.values():
            absent = math.nan if values.is_floating_point() else -1
            values[0, 0] = values[1] = absent
    return Batch(x, context=context)


def build(name: str) -> VAE:
    torch.manual_seed(1)
    return VAE(priors.StandardNormal(D), encoder_for(name), DECODERS[name]())


def noise_for(samples: int = 4) -> torch.Tensor:
    return torch.randn(samples, B, D, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


#: ways of building a decoder that the catalogue of the contract does not have
VARIANTS = ["categorical, conditional", "joint, trunk", "joint, split", "warp"]


@pytest.mark.parametrize("name", VARIANTS)
def test_variant(name, tmp_path):
    model, batch, noise = build(name).double(), batch_for(name), noise_for()
    model.check(batch)
    terms = model.terms(batch, noise=noise)
    assert terms.log_weight.isfinite().all()
    assert (terms.log_px[:, 1] == 0).all(), "a row with nothing observed says nothing"
    assert set(terms.log_px_by_field) == (set(FIELDS) if name.startswith("joint") else set())
    terms.log_weight.sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, parameter_name
    alone = model.terms(batch[:1], noise=noise[:, :1])
    assert torch.allclose(alone.log_weight, terms.log_weight[:, :1], atol=1e-10)
    draw = model.sample(B, batch.context, seed=4)
    model.check(Batch(draw, context=batch.context))
    sv.save(model, tmp_path / "model.safetensors")
    again = sv.load(tmp_path / "model.safetensors")
    assert torch.equal(again.terms(batch, noise=noise).log_px, terms.log_px)


def test_saved_files_name_these_classes():
    """What stands in files that people keep: changing it makes them unreadable."""
    parts = {name: describe(make()) for name, make in DECODERS.items()}
    assert {d["class"].removeprefix("sciencevae.vae.decoders.") for d in parts.values()} == {
        "discrete.Categorical",
        "discrete.NegativeBinomial",
        "discrete.Poisson",
        "student.StudentT",
        "logistic.MixtureOfLogistics",
        "joint.Joint",
        "warp.Warp",
    }
    others = (decoders.Gaussian(net(1)), decoders.Bernoulli(net(1)), decoders.VonMises(net(3)))
    assert [describe(other)["class"].removeprefix("sciencevae.vae.decoders.") for other in others] == [
        "gaussian.Gaussian",
        "discrete.Bernoulli",
        "von_mises.VonMises",
    ]
    head = parts["joint, split"]["arguments"]["fields"]["flux"]["arguments"]["network"]
    assert head == {"class": "sciencevae.networks.fields.Identity", "arguments": {}}


def test_compiled_equals_eager():
    """Where the fields have a network in common; the contract compiles the others."""
    found, name = [], "joint, trunk"
    for compiled in (False, True):
        model = build(name)
        chosen = TrainingSettings(epochs=2, batch_size=3, compile=compiled, device="cpu")
        history = sv.fit(model, batch_for(name).to(torch.float32), settings=chosen, progress=False)
        assert history.compiled == compiled
        found.append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]))
    assert torch.allclose(*found, atol=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_an_ensemble_equals_its_members_trained_singly(name):
    chosen = TrainingSettings(epochs=2, batch_size=3, compile=False, device="cpu")
    batch = batch_for(name).to(torch.float32)

    def make():
        return VAE(priors.StandardNormal(D), encoder_for(name), DECODERS[name]())

    together, _ = sv.fit_ensemble(make, batch, [0, 1], settings=chosen, progress=False)
    torch.manual_seed(1)
    single = make()
    sv.fit(single, batch, settings=chosen.model_copy(update={"seed": 1}), progress=False)
    for ours, theirs in zip(together[1].parameters(), single.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("name", DECODERS)
def test_what_is_missing_is_marginalised(name):
    """The density of the rest, entry by entry from whole data, and its gradients are finite."""
    decoder = DECODERS[name]().double()
    whole, partial = batch_for(name, missing=False), batch_for(name)
    likelihood = decoder(noise_for(), whole.context)
    fields = likelihood.fields if name.startswith("joint") else {"x": likelihood}
    wanted = 0.0
    for field, distribution in fields.items():
        of = (lambda x, field=field: x[field]) if name.startswith("joint") else (lambda x: x)
        entries = distribution.base_dist.log_prob(of(whole.x)) * observed_entries(of(partial.x))
        wanted = wanted + entries.flatten(2).sum(2)
    found = likelihood.log_prob(partial.x)
    assert torch.allclose(found, wanted, atol=1e-12)
    found.sum().backward()
    assert all(p.grad.isfinite().all() for p in decoder.parameters())


@pytest.mark.parametrize("name", ["categorical", "logistics"])
def test_a_missing_entry_is_the_sum_over_its_values(name):
    decoder, batch = DECODERS[name]().double(), batch_for(name, missing=False)
    likelihood = decoder(noise_for(), batch.context)
    levels = range(K) if name == "categorical" else [level / 7 for level in range(8)]
    filled = []
    for value in levels:
        x = batch.x.clone()
        x[:, 1] = value
        filled.append(likelihood.log_prob(x))
    batch.x[:, 1] = -1 if name == "categorical" else math.nan
    assert torch.allclose(torch.stack(filled).logsumexp(0), likelihood.log_prob(batch.x), atol=1e-12)


def test_categories_stand_one_block_after_another():
    decoder = decoders.Categorical(Identity(), K)
    logits = torch.randn(2, K * N, H, dtype=torch.float64)
    likelihood = decoder(logits.unsqueeze(0))
    assert likelihood.probs.shape == (1, 2, N, H, K)
    k, n = 2, 1
    wanted = torch.stack([logits[:, c * N + n] for c in range(K)]).softmax(0)[k]
    assert torch.allclose(likelihood.probs[0, :, n, :, k], wanted)
    x = torch.randint(0, K, (2, N, H))
    assert torch.equal(likelihood.log_prob(x), likelihood.log_prob(x.double()))
    model = VAE(priors.StandardNormal(D), encoder_for("categorical"), DECODERS["categorical"]())
    x = batch_for("categorical").x
    best = model.decode(model.encode(x).mean).probs.argmax(-1)
    assert torch.equal(model.reconstruct(x), best)
    with pytest.raises(NotImplementedError, match="take the mode"):
        _ = likelihood.mean


def test_a_negative_binomial_learns_how_much_counts_scatter():
    """Gamma–Poisson counts of r = 2 beside Poisson's: the learned r tells them apart."""
    generator = torch.Generator().manual_seed(0)
    rate = torch.full((4000, 2), 20.0)
    rate[:, 0] *= torch._standard_gamma(torch.full((4000,), 2.0), generator=generator) / 2
    x = torch.poisson(rate, generator=generator)
    decoder = decoders.NegativeBinomial(Perceptron(D, [], 2))
    model = VAE(priors.StandardNormal(D), encoders.Gaussian(Perceptron(2, [], 2 * D), D), decoder)
    # the latents are not to learn the scatter: they reach the decoder as nothing but its bias
    decoder.network.layers[0].weight.requires_grad_(False).zero_()
    sv.fit(
        model, x, settings=TrainingSettings(epochs=60, batch_size=500, learning_rate=0.1, schedule="cosine"),
        progress=False,
    )  # fmt: skip
    size = decoder.log_size.exp().tolist()
    # moments: r = mean²/(variance − mean)
    wanted = x[:, 0].mean().square() / (x[:, 0].var() - x[:, 0].mean())
    assert size[0] == pytest.approx(wanted.item(), rel=0.1)
    assert size[1] > 5 * size[0]
    assert decoder(torch.zeros(1, 1, D)).mean[0, 0].tolist() == pytest.approx(x.mean(0).tolist(), rel=0.02)


@pytest.mark.parametrize("name", ["poisson", "negative binomial"])
def test_an_exposure_multiplies_the_rate(name):
    decoder = DECODERS[name]()
    z = torch.randn(1, 4, D)
    rate = decoder(z).mean
    per_datum, per_entry = torch.tensor([0.5, 2.0, 0.0, math.nan]), torch.rand(4, N) + 0.1
    exposed = decoder(z, {"exposure": per_datum}).mean
    assert torch.allclose(exposed[0, :2], rate[0, :2] * per_datum[:2, None])
    assert torch.allclose(exposed[0, 2], torch.zeros(N), atol=1e-30)
    assert torch.allclose(decoder(z, {"exposure": per_entry}).mean, rate * per_entry)
    assert torch.allclose(decoder(z, {"exposure": torch.tensor([1, 2, 3, 4])}).mean[0, 3], rate[0, 3] * 4), (
        "integer exposures"
    )
    x = torch.tensor([[1.0], [1.0], [0.0], [math.nan]]).expand(-1, N)
    value = decoder(z, {"exposure": per_datum}).log_prob(x)
    assert value[0, 2:].tolist() == pytest.approx([0.0, 0.0], abs=1e-30)
    value.sum().backward()
    assert all(p.grad.isfinite().all() for p in decoder.parameters())
    decoder.check(x, {"exposure": per_datum})


def test_a_trunk_is_shared_and_names_of_context_reach_their_field():
    decoder = DECODERS["joint, trunk"]()
    batch = batch_for("joint").to(torch.float32)
    z = torch.randn(2, B, D)
    likelihood = decoder(z, batch.context)
    h = decoder.network(z.flatten(0, 1), batch.context["condition"].repeat(2, 1)).unflatten(0, (2, B))
    alone = decoder.fields["flux"](h, {"noise": batch.context["noise.flux"]})
    assert torch.equal(likelihood.fields["flux"].log_prob(batch.x["flux"]), alone.log_prob(batch.x["flux"]))
    # a field that is not there drops out
    rest = {name: batch.x[name] for name in ("flux", "kind")}
    by_field = likelihood.log_prob_by_field(batch.x)
    assert torch.allclose(likelihood.log_prob(rest), by_field["flux"] + by_field["kind"])
    with pytest.raises(InputError, match=r"noise\.NAME.*of field NAME"):
        decoder(z, {"condition": batch.context["condition"], "noise": torch.ones(B, 3)})
    only = decoders.Joint({"flux": decoders.Gaussian(net(3), scale="per-datum")})
    noise = batch.context["noise.flux"]
    assert torch.equal(only(z, {"noise": noise}).fields["flux"].scale, noise.expand(2, B, 3))


def test_prepared_fields_bring_their_noise_scaled_and_their_exposure_as_it_is(tmp_path):
    import numpy as np
    import xarray as xr

    from sciencevae.data.batches import as_batches
    from sciencevae.data.scaling import Scaling
    from sciencevae.data.splits import with_splits
    from sciencevae.data.store import write

    rng, rows = np.random.default_rng(0), 200
    flux = rng.normal([50, -2, 1e4], [3, 0.1, 20], (rows, 3))
    table = xr.Dataset(
        {
            "flux": (("sample", "variable"), flux.astype("f4"), {"units": "Jy"}),
            "noise.flux": (
                ("sample", "variable"),
                rng.uniform(0.1, 1, (rows, 3)).astype("f4"),
                {"units": "Jy"},
            ),
            "counts": (("sample", "channel"), rng.poisson(4, (rows, 2)), {"units": "1"}),
            "kind": (("sample", "label"), rng.integers(0, K, (rows, 1)), {"units": "1"}),
            "exposure": ("sample", rng.uniform(1, 9, rows).astype("f4"), {"units": "s"}),
        },
        coords={"row": ("sample", np.arange(rows)), "group": ("sample", np.arange(rows))},
        attrs={"domain": "toy", "dataset": "toy", "fields": list(FIELDS)},
    )
    path = write(with_splits(table, seed=0), tmp_path / "toy.zarr", shuffle=False)
    loaded, streamed = as_batches(path, "train").example, as_batches(path, "train", memory_limit=0).example
    for name, tensor in loaded.tensors().items():
        assert torch.equal(streamed.tensors()[name], tensor), name
    train = with_splits(table, seed=0)
    train = train.isel(sample=np.flatnonzero(train["split"].values == 0)[: len(loaded)])
    scale = Scaling.fit(with_splits(table, seed=0)).fields["flux"].scale
    assert np.allclose(loaded.context["noise.flux"], train["noise.flux"].values / scale, rtol=1e-5)
    assert np.allclose(loaded.context["exposure"], train["exposure"].values)
    assert np.array_equal(loaded.x["counts"], train["counts"].values)
    assert loaded.x["counts"].dtype == torch.long
    model = build("joint")
    history = sv.fit(
        model, path, settings=TrainingSettings(epochs=2, batch_size=32, device="cpu"), progress=False
    )
    assert history.rows[-1]["train_loss"] < history.rows[0]["train_loss"]


def test_an_exchanged_field_is_saved(tmp_path):
    model, batch, noise = build("joint"), batch_for("joint").to(torch.float32), noise_for().float()
    model.decoder.fields["counts"] = decoders.Poisson(Perceptron(D, [7, 7], 2))
    model.encoder.network.networks["kind"] = Perceptron(2, [4], 3)
    sv.save(model, tmp_path / "model.safetensors")
    again = sv.load(tmp_path / "model.safetensors")
    assert torch.equal(again.terms(batch, noise=noise).log_px, model.terms(batch, noise=noise).log_px)


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (0, -2), (-1, 2)])
def test_a_displacement_by_whole_pixels_is_a_shift(shift):
    source = torch.randn(B, 2, 8, 9)
    moved = warp(source, torch.tensor(shift, dtype=torch.float32)[:, None, None].expand(3, B, 2, 8, 9))
    rolled = source.roll((-shift[0], -shift[1]), (2, 3)).expand(3, -1, -1, -1, -1)
    inside = (..., slice(2, -2), slice(2, -2)) if shift != (0, 0) else ...
    assert torch.equal(moved[inside], rolled[inside])


@pytest.mark.parametrize("size", [(H, W), (1, 3), (6, 1)])
def test_a_displacement_is_that_of_grid_sample(size):
    height, width = size
    source = torch.randn(B, 2, height, width, dtype=torch.float64)
    u = 3 * torch.randn(2, B, 2, height, width, dtype=torch.float64)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    # align_corners=False: pixel i has the coordinate (2i + 1)/size − 1
    y, x = (2 * (u[:, :, 0] + rows) + 1) / height - 1, (2 * (u[:, :, 1] + columns) + 1) / width - 1
    for s in range(2):
        grid = torch.stack([x[s], y[s]], -1)
        wanted = nn.functional.grid_sample(source, grid, padding_mode="border", align_corners=False)
        assert torch.allclose(warp(source, u)[s], wanted, atol=1e-10)


def test_a_warp_is_differentiable_and_its_displacement_is_there():
    source = torch.randn(2, 1, 3, 4, dtype=torch.float64)
    u = (0.3 + 0.2 * torch.rand(1, 2, 2, 3, 4, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(functools.partial(warp, source), (u,))
    decoder, batch = DECODERS["warp, learned"](), batch_for("warp").to(torch.float32)
    z = torch.randn(3, B, D)
    u = decoder.displacement(z)
    assert u.shape == (3, B, 2, H, W)
    assert torch.equal(u.flatten(0, 1), decoder.network(z.flatten(0, 1)))
    assert torch.equal(decoder(z, batch.context).mean, warp(batch.context["source"], u))
    with torch.no_grad():
        for parameter in decoder.network.parameters():
            parameter.zero_()
    assert torch.equal(decoder(z, batch.context).mean[1], batch.context["source"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["counts", "embedded"])
def test_integers_reach_an_encoder(dtype, kind):
    x = batch_for("categorical", missing=False).x
    network = net(2 * D, N)
    if kind == "embedded":

        class Embedded(nn.Module):
            def __init__(self):
                super().__init__()
                self.table, self.rest = nn.Embedding(K, 2), net(2 * D, 2 * N)

            def forward(self, x):
                return self.rest(self.table(x).flatten(1))

        network = Embedded()
    model = VAE(priors.StandardNormal(D), encoders.Gaussian(network, D), DECODERS["categorical"]()).to(dtype)
    model.check(Batch(x))
    if kind == "counts":
        assert torch.equal(model.encode(x).mean, model.encode(x.to(dtype)).mean)
    assert model.terms(Batch(x)).log_weight.dtype == dtype
    x[2, 1] = -1
    with pytest.raises(
        InputError, match=r"1 of 6 rows of x have missing entries .*integers: −1.*missing=True"
    ):
        model.check(Batch(x))


def test_extreme_outputs_of_a_network_give_finite_densities_and_gradients():
    for name in ("categorical", "poisson", "negative binomial", "student", "logistics"):
        made = DECODERS[name]()
        made.network = Identity()
        for size in (1e2, 1e4):
            signs = torch.randn(B, made.outputs * N).sign() * size
            h = signs.unsqueeze(0).requires_grad_()
            value = made(h).log_prob(batch_for(name, missing=False).to(torch.float32).x)
            value.sum().backward()
            assert value.isfinite().all(), name
            assert h.grad.isfinite().all(), name


BAD = {
    "categorical": [
        (torch.tensor([[0, 1, 3]]), {}, r"categories 0 … 2; the data hold 3: number the categories"),
        (torch.tensor([[0, 1, -2]]), {}, "the data hold -2"),
        (torch.tensor([[0.0, 0.5, 1.0]]), {}, r"the data hold 0\.5"),
        (torch.tensor([[0.0, -1.0, 1.0]]), {}, "else NaN"),
    ],
    "poisson": [
        (torch.tensor([[0.0, 0.5, 1.0]]), {}, r"hold 0\.5: give the counts as they are, not scaled"),
        (torch.tensor([[0.0, -1.0, 1.0]]), {}, "hold -1"),
        (torch.tensor([[0.0, math.inf, 1.0]]), {}, "hold inf"),
        (torch.tensor([[0, 2, 1]]), {"exposure": torch.zeros(1)}, "is 0 where 2 was counted"),
        (torch.tensor([[0, 2, 1]]), {"exposure": torch.full((1,), -1.0)}, "is -1 where 0 was counted"),
        (torch.tensor([[0, 2, 1]]), {"exposure": torch.ones(1, 2)}, r"has shape \(1, 2\)"),
    ],
    "negative binomial": [
        (torch.tensor([[0.0, 0.5, 1.0]]), {}, r"a NegativeBinomial likelihood takes counts")
    ],
    "student": [(torch.tensor([[0.0, math.inf, 1.0]]), {}, "infinities; a Student-t")],
    "logistics": [
        (torch.tensor([[0.0, 0.5, 1.0]]), {}, r"8 levels are 0, 1/7, …, 1; the data hold 0\.5"),
        (torch.tensor([[0.0, 2.0, 7.0]]), {}, "hold 2: divide integer grey values by 7"),
    ],
    "warp, learned": [
        (torch.zeros(1, 2, H, W), {"source": torch.zeros(1, 1, H, W)}, "source image of the shape of x"),
        (torch.zeros(1, 2, H, W), {"source": torch.full((1, 2, H, W), math.nan)}, "holds NaN"),
        (torch.zeros(1, 2, H, W), {}, r"no context\['source'\]"),
    ],
    "joint": [
        (
            {"flux": torch.zeros(1, 3), "count": torch.zeros(1, 2)},
            {"noise.flux": torch.ones(1, 3)},
            "a field 'count' that the Joint decoder does not describe; did you mean 'counts'",
        ),
        (
            {"flux": torch.zeros(1, 3), "counts": torch.tensor([[0.5, 1.0]])},
            {"noise.flux": torch.ones(1, 3)},
            "field 'counts': a Poisson likelihood takes counts",
        ),
        (
            {"flux": torch.zeros(1, 3)},
            {"noise.flux": -torch.ones(1, 3)},
            r"field 'flux': context\['noise'\] is -1.0",
        ),
    ],
}


@pytest.mark.parametrize(
    ("name", "x", "context", "message"), [(name, *case) for name, cases in BAD.items() for case in cases]
)
def test_data_outside_the_support_are_refused(name, x, context, message):
    with pytest.raises(InputError, match=message):
        DECODERS[name]().check(x, context)


def test_data_and_parts_of_other_fields_are_refused():
    batch = batch_for("joint")
    joint, single = build("joint").double(), build("student").double()
    with pytest.raises(InputError, match=r"networks\.Fields takes the named fields flux, counts, kind"):
        joint.check(Batch(torch.zeros(2, N, dtype=torch.float64)))
    with pytest.raises(InputError, match=r"a Perceptron takes one tensor.* fields flux, .*networks\.Fields"):
        single.check(batch)
    with pytest.raises(InputError, match="a network for 'kind', which is no field of x"):
        joint.check(Batch({name: batch.x[name] for name in ("flux", "counts")}, context=batch.context))
    single.encoder = joint.encoder
    with pytest.raises(InputError, match=r"named fields flux, counts, kind, and .* one tensor: .*Joint"):
        single.check(batch)
    joint.encoder = encoder_for("student").double()
    with pytest.raises(InputError, match="x is one tensor, and the decoder describes named fields"):
        joint.check(Batch(torch.zeros(B, N, dtype=torch.float64), context=batch.context))
    with pytest.raises(InputError, match=r"Joint decoder gives no entry 'kind'"):
        decoders.Joint(field_decoders(lambda name, out: Identity()), Split(net(5), {"flux": 3, "counts": 2}))(
            torch.zeros(1, B, D), {"noise.flux": torch.ones(B, 3)}
        )
    with pytest.raises(InputError, match=r"gives \(B, 2, H, W\), a displacement"):
        decoders.Warp(Identity())(torch.zeros(1, B, 4, H, W), {"source": torch.zeros(B, 1, H, W)})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: decoders.Categorical(net(N), 1), "at least 2 categories, not 1"),
        (lambda: decoders.StudentT(net(N), df=0.0), "df is a number above 0"),
        (lambda: decoders.StudentT(net(N), df="learnt"), "or 'learned', not 'learnt'"),
        (lambda: decoders.StudentT(Identity(), df="learned"), "features="),
        (lambda: decoders.MixtureOfLogistics(net(N), 0), "at least 1 component"),
        (lambda: decoders.MixtureOfLogistics(net(N), levels=1), "at least 2 levels"),
        (lambda: decoders.Joint({}), "at least one named field"),
        (lambda: decoders.Joint({"a.b": decoders.Poisson(net(1))}), "no dot"),
        (lambda: decoders.Joint({"values": decoders.Poisson(net(1))}), "'values', a name that torch uses"),
        (lambda: decoders.Joint({"a": DECODERS["joint"]()}), "field 'a' is a Joint decoder itself"),
        (
            lambda: decoders.Joint({"a": decoders.Poisson(net(1))}, conditional=True),
            "about its shared network",
        ),
        (lambda: decoders.Warp(displacement(), scale="predicted"), "can't be 'predicted'"),
        (lambda: decoders.Warp(displacement(), scale="learned"), "channels="),
        (lambda: decoders.Warp(displacement(), scale=0.0), "scale above 0"),
    ],
)
def test_what_does_not_fit_is_refused_when_built(make, message):
    with pytest.raises(InputError, match=message):
        make()
