"""Every sequence of a small vocabulary can be listed: probabilities, samples and searches are held against that."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from sciencevae.batch import Batch
from sciencevae.distributions.sequence import Sequence
from sciencevae.errors import InputError
from sciencevae.networks import CausalTransformer, PixelCNN, Raster, Recurrent
from sciencevae.spec import describe, rebuild
from sciencevae.training.step import Problem, trainable
from sciencevae.vae import encoders, priors
from sciencevae.vae.decoders import Sequence as Decoder
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO

V, T, C = 3, 4, 2
STOP = 2

NETWORKS = {
    "transformer": lambda c=C: CausalTransformer(V, T, width=8, heads=2, condition_features=c),
    "recurrent": lambda c=C: Recurrent(V, T, width=8, embedding=4, condition_features=c),
    "pixels": lambda c=C: Raster(PixelCNN(V, (2, 2), channels=4, layers=2, condition_features=c)),
}


def network(name: str, c: int = C) -> nn.Module:
    """With weights large enough that the distribution is far from uniform."""
    made, generator = NETWORKS[name](c).double(), torch.Generator().manual_seed(4)
    for parameter in made.parameters():
        parameter.data += 0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return made


def every(stop: int | None) -> torch.Tensor:
    """All sequences, (N, T), −1 behind the stop token."""
    found = set()
    for sequence in itertools.product(range(V), repeat=T):
        end = sequence.index(stop) + 1 if stop in sequence else T
        found.add(sequence[:end] + (-1,) * (T - end))
    return torch.tensor(sorted(found))


def distribution(
    name: str, batch: tuple[int, ...] = (), stop: int | None = STOP, conditional=True
) -> Sequence:
    condition = torch.randn(*batch, C, generator=torch.Generator().manual_seed(5)).double()
    if not conditional:
        return Sequence(network(name, 0), batch, T, stop)
    return Sequence(network(name), batch, T, stop, condition)


CASES = list(itertools.product(NETWORKS, [STOP, None], [True, False]))


@pytest.mark.parametrize(("name", "stop", "conditional"), CASES, ids=str)
def test_probabilities_of_all_sequences_sum_to_one(name, stop, conditional):
    p = distribution(name, (2, 3), stop, conditional)
    log_p = p.log_prob(every(stop)[:, None, None])
    assert log_p.shape == (len(every(stop)), 2, 3)
    assert torch.allclose(log_p.exp().sum(0), torch.ones(2, 3).double(), atol=1e-10)
    if conditional:
        assert log_p.exp().std((1, 2)).max() > 1e-3, "the condition matters"


@pytest.mark.parametrize(("name", "stop", "conditional"), CASES, ids=str)
def test_samples_have_these_probabilities(name, stop, conditional):
    torch.manual_seed(0)
    p = distribution(name, (2,), stop, conditional)
    draws = p.sample((3000,))
    assert draws.shape == (3000, 2, T)
    listed = every(stop)
    probabilities = p.log_prob(listed[:, None]).exp().detach()  # (N, 2)
    for row in range(2):
        equal = (draws[:, row, None] == listed).all(-1)  # (3000, N)
        assert equal.any(1).all(), "no draw that is not listed"
        wanted = 3000 * probabilities[:, row].numpy()
        common = wanted >= 5
        counts = equal.sum(0).numpy()
        observed = np.append(counts[common], counts[~common].sum())
        expected = np.append(wanted[common], wanted[~common].sum())
        kept = expected > 0
        assert stats.chisquare(observed[kept], expected[kept]).pvalue > 1e-4


@pytest.mark.parametrize(("name", "stop", "conditional"), CASES, ids=str)
def test_beams_are_the_likeliest_sequences(name, stop, conditional):
    p = distribution(name, (2, 3), stop, conditional)
    listed = every(stop)
    best = p.log_prob(listed[:, None, None]).sort(0, descending=True)
    sequences, log_p = p.beam(len(listed) + 2)
    assert sequences.shape == (2, 3, len(listed) + 2, T)
    # as wide as there are sequences: all of them, in order, and beyond them nothing
    assert torch.allclose(log_p[..., :-2].movedim(-1, 0), best.values, atol=1e-10)
    assert torch.equal(sequences[..., :-2, :].movedim(-2, 0), listed[best.indices])
    assert (log_p[..., -2:] == -torch.inf).all()
    # narrower: what is returned has the probability that is said, each sequence once
    sequences, log_p = p.beam(3)
    assert torch.allclose(p.log_prob(sequences.movedim(-2, 0)), log_p.movedim(-1, 0), atol=1e-10)
    assert (log_p.diff(dim=-1) <= 0).all()
    assert all(len({tuple(s) for s in row.tolist()}) == 3 for row in sequences.flatten(0, 1))
    assert torch.equal(p.beam(1)[0].squeeze(-2), p.mode)
    assert p.mode.shape == (2, 3, T)


@pytest.mark.parametrize("name", ["transformer", "recurrent"])
def test_greedy_and_stepwise_decoding_agree_with_evaluating_the_whole_network(name):
    step = distribution(name, (5,))

    def whole(tokens, condition):
        return step.network(tokens, condition)

    anew = Sequence(whole, (5,), T, STOP, step.condition)
    assert torch.equal(step.mode, anew.mode)
    assert torch.equal(step.beam(4)[0], anew.beam(4)[0])
    torch.manual_seed(0)
    one = step.sample((7,))
    torch.manual_seed(0)
    assert torch.equal(one, anew.sample((7,)))


def test_a_missing_end_is_marginalised():
    p = distribution("transformer", (2,))
    begun = torch.tensor([0, 1, -1, -1])
    listed = every(STOP)
    ends = listed[(listed[:, :2] == begun[:2]).all(1)]
    assert torch.allclose(p.log_prob(begun).exp(), p.log_prob(ends[:, None]).exp().sum(0), atol=1e-10)
    assert torch.allclose(p.log_prob(begun), p.log_prob(begun[:2]), atol=1e-10), "short sequences"
    assert (p.log_prob(torch.full((T,), -1)) == 0).all(), "a row with nothing observed says nothing"
    assert torch.isfinite(torch.autograd.grad(p.log_prob(begun).sum(), p.network.head[1].weight)[0]).all()
    with pytest.raises(NotImplementedError, match="mode"):
        _ = p.mean


def model(token_dropout: float = 0.0, name: str = "recurrent", conditional: bool = False) -> VAE:
    torch.manual_seed(0)
    width = 2 + C * conditional

    class Counts(nn.Module):
        """How often each token stands there."""

        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(V, 4)

        def forward(self, x):
            return self.linear(
                torch.stack([(x == v).sum(1) for v in range(V)], 1).to(self.linear.weight.dtype)
            )

    decoder = Decoder(network(name, width), STOP, token_dropout, conditional)
    return VAE(priors.StandardNormal(2), encoders.Gaussian(Counts(), 2), decoder).double()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("conditional", [True, False])
def test_a_decoder_trains_under_grad_vmap_and_compile(name, conditional):
    vae = model(0.0, name, conditional)
    generator = torch.Generator().manual_seed(1)
    x = every(STOP)[torch.randperm(len(every(STOP)), generator=generator)[:5]]
    batch = Batch(x, context={"condition": torch.randn(5, C, generator=generator).double()})
    noise = torch.randn(2, 5, 2, generator=generator).double()
    problem = Problem(vae, ELBO(samples=2))

    def loss(parameters):
        scalars = {"beta": torch.tensor(1.0)}
        return torch.func.functional_call(problem, parameters, (batch.tensors(), noise, scalars))["loss"]

    parameters = trainable(problem)
    found = torch.func.grad(loss)(parameters)
    problem(batch.tensors(), noise, {"beta": torch.tensor(1.0)})["loss"].backward()
    for key, parameter in problem.named_parameters():
        assert torch.allclose(found[key], parameter.grad, atol=1e-10), key
    pair = {key: torch.stack([p, p + 0.1]) for key, p in parameters.items()}
    together = torch.func.vmap(torch.func.grad(loss), randomness="different")(pair)
    alone = torch.func.grad(loss)({key: p[1] for key, p in pair.items()})
    torch._dynamo.reset()
    # one graph, forward and backward; the code made of the networks' graphs is tested with the networks
    graph = torch.compile(torch.func.grad(loss), fullgraph=True, dynamic=False, backend="aot_eager")
    compiled = graph(parameters)
    for key in found:
        assert torch.allclose(together[key][0], found[key], atol=1e-9), key
        assert torch.allclose(together[key][1], alone[key], atol=1e-9), key
        assert torch.allclose(compiled[key], found[key], atol=1e-9), key


def test_token_dropout_hides_tokens_in_training_only():
    vae = model(1.0)
    z, x = torch.randn(1, 2, 2).double(), torch.tensor([[0, 1, 0, 1], [1, 1, 1, 0]])
    hidden = vae.decoder(z).log_prob(x)
    blind = vae.decoder.network(torch.full((2, T), V), z[0]).log_softmax(-1)
    assert torch.allclose(hidden[0], blind.gather(-1, x.unsqueeze(-1)).sum((1, 2)), atol=1e-10)
    vae.eval()
    assert not torch.allclose(vae.decoder(z).log_prob(x), hidden)
    assert torch.allclose(vae.decoder(z).log_prob(x), Decoder(vae.decoder.network, STOP)(z).log_prob(x))
    # a share of them: the told input differs in about that share of the places
    seen = []

    def spy(tokens, condition):
        seen.append(tokens)
        return vae.decoder.network(tokens, condition)

    torch.manual_seed(0)
    wide = Sequence(spy, (1, 500), T, STOP, torch.zeros(1, 500, 2).double(), unknown=(0.3, V))
    wide.log_prob(torch.zeros(500, T).long())
    assert (seen[0] == V).double().mean().item() == pytest.approx(0.3, abs=0.04)
    # and none behind the end, which a network then need not compute
    ended = torch.tensor([[0, 1, STOP, -1]]).expand(500, T)
    wide.log_prob(ended)
    assert torch.equal(seen[1] < 0, ended < 0)


def test_a_model_of_sequences_samples_and_is_rebuilt():
    vae = model(0.2, conditional=True)
    draw = vae.sample(6, context={"condition": torch.zeros(6, C).double()}, seed=1)
    vae.decoder.check(draw, {})
    assert draw.shape == (6, T)
    decoder = rebuild(describe(vae.decoder))
    assert isinstance(decoder, Decoder)
    assert (decoder.stop, decoder.token_dropout, decoder.conditional) == (STOP, 0.2, True)
    with pytest.raises(InputError, match="no context\\['condition'\\]"):
        vae.decoder(torch.zeros(1, 6, 2).double())


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([[0.0, 1.0]], "takes integers"),
        ([[0, 1, 0, 1, 0]], "5 places and the network 4"),
        ([[0, 3]], "row 0, place 1 is 3"),
        ([[0, -2]], "is -2"),
        ([[0, 1, 2, -1], [0, -1, 1, 2]], "row 1 has −1 at place 1 and a token behind it"),
        ([[0, 2, 1, -1]], "goes on with 1 behind the stop token 2 at place 1"),
    ],
)
def test_data_that_are_no_sequences_are_refused(x, message):
    with pytest.raises(InputError, match=message):
        model().decoder.check(torch.tensor(x), {})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Decoder(nn.Linear(2, 3)), "attributes vocabulary and length; Linear has none"),
        (lambda: Decoder(NETWORKS["recurrent"](), stop=V), "stop is one of the tokens 0 … 2, not 3"),
        (lambda: Decoder(NETWORKS["recurrent"](), token_dropout=1.5), "between 0 and 1"),
    ],
)
def test_what_does_not_fit_is_refused_when_built(make, message):
    with pytest.raises(InputError, match=message):
        make()
