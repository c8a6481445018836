"""Causality is tested exactly, on the Jacobian of the logits by the embedded inputs."""

import pytest
import torch
from torch import nn

from sciencevae.errors import InputError
from sciencevae.networks import CausalTransformer, PixelCNN, Raster, Recurrent

V, T, C, B = 4, 6, 2, 3

NETWORKS = {
    "transformer": lambda c=C: CausalTransformer(V, T, width=8, heads=2, layers=2, condition_features=c),
    "recurrent": lambda c=C: Recurrent(V, T, width=7, embedding=5, layers=2, condition_features=c),
    "pixels": lambda c=C: Raster(PixelCNN(V, (2, 3), channels=4, layers=2, condition_features=c)),
}


def tokens(rows=B, length=T):
    # every input index, "not told" too
    return torch.randint(0, V + 1, (rows, length), generator=torch.Generator().manual_seed(0))


def condition(rows=B):
    return torch.randn(rows, C, generator=torch.Generator().manual_seed(1)).double()


def spread(network: nn.Module) -> nn.Module:
    """Double precision, and weights large enough that an influence is not lost in rounding."""
    generator = torch.Generator().manual_seed(2)
    for parameter in network.double().parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return network


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("conditional", [True, False])
def test_trains(trains_everywhere, name, conditional):
    generator = torch.Generator().manual_seed(3)
    every = torch.cat([torch.arange(V + 1), torch.randint(0, V + 1, (B * T,), generator=generator)])
    inputs = (every[: B * T].reshape(T, B).T,)  # a last token is never read: each one stands elsewhere
    if conditional:
        trains_everywhere(NETWORKS[name], (*inputs, condition()))
    else:
        trains_everywhere(lambda: NETWORKS[name](0), inputs, compiled=False)


def influence(network: nn.Module, x: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """|∂ logits_t / ∂ embedded token s| summed over the rest, (T, T), and |∂ logits_t / ∂ condition|, (T, c)."""
    table = next(m for m in network.modules() if isinstance(m, nn.Embedding))
    embedded = []

    def keep(module, inputs, output):
        embedded.append(output)

    handle = table.register_forward_hook(keep)
    c = c.clone().requires_grad_()
    logits = network(x, c).flatten(1, -2)[0]  # (T, V)
    handle.remove()
    (vectors,) = embedded
    by_token, by_condition = [], []
    for t in range(len(logits)):
        rows = [torch.autograd.grad(entry, (vectors, c), retain_graph=True) for entry in logits[t]]
        by_token.append(sum(row[0][0].abs().sum(-1) for row in rows).flatten())
        by_condition.append(sum(row[1][0].abs() for row in rows))
    return torch.stack(by_token), torch.stack(by_condition)


@pytest.mark.parametrize("name", ["transformer", "recurrent"])
def test_a_position_sees_all_tokens_before_it_and_nothing_else(name):
    network = spread(NETWORKS[name]())
    by_token, by_condition = influence(network, tokens(1), condition(1))
    # the embedded sequence is the start, then tokens 0 … T − 2: entry s is token s − 1
    past = torch.ones(T, T).tril().bool()
    assert (by_token[~past] == 0).all()
    assert (by_token[past] > 1e-9).all()
    assert (by_condition > 1e-9).all()


@pytest.mark.parametrize(("shape", "layers"), [((5, 5), 2), ((2, 5), 2), ((8, 8), 5), ((3, 3), 1)])
def test_a_pixel_sees_its_whole_past_in_raster_order_and_nothing_else(shape, layers):
    network = spread(PixelCNN(3, shape, channels=4, layers=layers, condition_features=C))
    codes = torch.randint(0, 3, (1, *shape), generator=torch.Generator().manual_seed(0))
    by_token, by_condition = influence(network, codes, condition(1))
    n = shape[0] * shape[1]
    past = torch.ones(n, n).tril(-1).bool()
    assert (by_token[~past] == 0).all()
    assert (by_token[past] > 0).all(), "no blind spot"
    assert (by_condition > 0).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_exchanging_a_token_changes_the_logits_behind_it_and_no_others(name):
    network, c = spread(NETWORKS[name]()), condition(1)
    x = tokens(1)
    before = network(x, c)
    for s in range(T):
        other = x.clone()
        other[0, s] = (other[0, s] + 1) % (V + 1)
        change = (network(other, c) - before).abs().amax(-1)[0]
        assert (change[: s + 1] == 0).all()
        assert (change[s + 1 :] > 0).all()
    # a shorter sequence is the beginning of a longer one
    assert torch.allclose(network(x[:, :4], c), before[:, :4], atol=1e-12)
    told, unknown = x.clamp(max=V - 1), torch.full_like(x, V)
    assert not torch.equal(network(told, c)[:, 1:], network(unknown, c)[:, 1:])
    assert torch.equal(network(told, c)[:, 0], network(unknown, c)[:, 0])
    padded = torch.where(torch.arange(T) < 3, told, -1)
    unpadded = network(torch.where(padded < 0, V, padded), c)
    assert torch.allclose(network(padded, c)[:, :3], unpadded[:, :3], atol=1e-12), "padding is not told"


@pytest.mark.parametrize("name", ["transformer", "recurrent"])
@pytest.mark.parametrize("conditional", [True, False])
def test_step_by_step_equals_the_whole_sequence(name, conditional):
    network = spread(NETWORKS[name](C if conditional else 0))
    x, c = tokens(), condition() if conditional else None
    x[0, 1], x[1, 2] = V, -1  # not told, and padding
    state, token, logits = network.start(c, rows=B), None, []
    for t in range(T):
        out, state = network.step(token, state)
        logits.append(out)
        token = x[:, t]
    assert torch.allclose(torch.stack(logits, 1), network(x, c), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["transformer", "recurrent"])
def test_a_state_can_be_reordered_and_gone_on_from_twice(name):
    network, x, c = spread(NETWORKS[name]()), tokens(), condition()
    _, begun = network.step(None, network.start(c, rows=B))
    _, begun = network.step(x[:, 0], begun)
    rows = torch.tensor([2, 0, 2, 1])
    for last in (x[rows, 1], x[rows, 2]):  # the first way on leaves the state as it was
        found, _ = network.step(last, tuple(s[rows] for s in begun))
        whole = torch.stack([x[rows, 0], last, last], 1)
        assert torch.allclose(found, network(whole, c[rows])[:, 2], rtol=0, atol=1e-10)


def test_the_recurrent_cells_are_those_of_torch():
    network = spread(Recurrent(V, T, width=7, embedding=5, layers=2, condition_features=C))
    reference = nn.GRU(5 + C, 7, num_layers=2, batch_first=True).double()
    with torch.no_grad():
        for layer, cell in enumerate(network.cells):
            weight = cell.input.weight
            if layer == 0:
                weight = torch.cat([weight, network.condition.weight], 1)
            getattr(reference, f"weight_ih_l{layer}").copy_(weight)
            getattr(reference, f"bias_ih_l{layer}").copy_(cell.input.bias)
            getattr(reference, f"weight_hh_l{layer}").copy_(cell.hidden.weight)
            getattr(reference, f"bias_hh_l{layer}").copy_(cell.hidden.bias)
    x, c = tokens(), condition()
    joined = torch.cat([network.tokens(x), c.unsqueeze(1).expand(B, T, C)], -1)
    initial = network.initial(c).tanh().reshape(B, 2, 7).transpose(0, 1).contiguous()
    assert torch.allclose(network.head(reference(joined, initial)[0]), network(x, c), atol=1e-10)


@pytest.mark.parametrize("name", NETWORKS)
def test_learns_which_token_follows(name):
    """On cyclic sequences, whose start the condition tells, nothing is left to chance."""
    torch.manual_seed(0)
    network = NETWORKS[name]()
    start = torch.arange(V).repeat(8)
    x = (start.unsqueeze(1) + torch.arange(T)) % V
    c = nn.functional.one_hot(start, V).float() @ torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(150):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(network(x, c).flatten(0, 1), x.flatten())
        loss.backward()
        optimiser.step()
    assert loss < 0.05


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CausalTransformer(4, 6, width=10, heads=4), "does not divide into 4 heads"),
        (lambda: CausalTransformer(4, 6, layers=0), "layers ≥ 1, not 0"),
        (lambda: Recurrent(1, 6), "vocabulary ≥ 2"),
        (lambda: PixelCNN(4, (3,)), "shape \\(h, w\\)"),
        (
            lambda: NETWORKS["recurrent"]()(tokens(2, 7), condition(2).float()),
            "7 tokens; the network was built for 6",
        ),
        (lambda: NETWORKS["transformer"]()(tokens()), "without a condition"),
        (lambda: PixelCNN(4, (3, 3))(torch.zeros(2, 3, 4).long()), "expected \\(3, 3\\)"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
