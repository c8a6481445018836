"""Recurrent networks against torch's own GRU, and what a batch costs."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap

from sciencevae.errors import InputError
from sciencevae.networks import Recurrent, RecurrentEncoder
from sciencevae.networks import recurrent as module

V, T, B = 7, 9, 6
LENGTHS = (9, 3, 7, 1, 0, 3)


def padded(lengths=LENGTHS):
    x = torch.randint(0, V, (len(lengths), T), generator=torch.Generator().manual_seed(0))
    return torch.where(torch.arange(T) < torch.tensor(lengths)[:, None], x, -1)


def encoder(layers=2, sums=True):
    torch.manual_seed(1)
    return RecurrentEncoder(V, T, 5, width=6, embedding=4, layers=layers, sums=sums).double()


@pytest.mark.parametrize("sums", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_is_torchs_bidirectional_gru(layers, sums):
    ours, x = encoder(layers, sums), padded(LENGTHS[:4])
    theirs = nn.GRU(4, 6, num_layers=layers, bidirectional=True, batch_first=True).double()
    for layer, pair in enumerate(ours.cells):
        for cell, name in zip(pair, ("", "_reverse"), strict=True):
            for kind, linear in (("ih", cell.input), ("hh", cell.hidden)):
                getattr(theirs, f"weight_{kind}_l{layer}{name}").data = linear.weight.data
                getattr(theirs, f"bias_{kind}_l{layer}{name}").data = linear.bias.data
    vectors = ours.tokens(x.clamp(min=0))
    packed = nn.utils.rnn.pack_padded_sequence(
        vectors, (x >= 0).sum(1), batch_first=True, enforce_sorted=False
    )
    states, last = theirs(packed)
    joined = [last[-2], last[-1]]
    if sums:
        joined.append(nn.utils.rnn.pad_packed_sequence(states, batch_first=True)[0].sum(1) / T**0.5)
    assert torch.allclose(ours(x), ours.head(torch.cat(joined, dim=-1)), atol=1e-12)


def test_no_rows_are_no_latents():
    network = encoder()
    assert network(padded()[:0]).shape == (0, *network(padded()).shape[1:])


@pytest.mark.parametrize("build", [encoder, lambda: Recurrent(V, T, width=6, embedding=4, layers=2).double()])
def test_leaving_out_ended_rows_changes_nothing(build, monkeypatch):
    """Value and gradients of what counts, as when every row is computed to the end."""
    x, network = padded(), build()

    def loss():
        out = network(x)
        return (out if out.dim() == 2 else out[x >= 0]).square().sum()

    short = torch.autograd.grad(loss(), list(network.parameters()))
    value = loss()
    monkeypatch.setattr(module, "_by_length", lambda observed: None)
    whole = torch.autograd.grad(loss(), list(network.parameters()))
    assert torch.allclose(loss(), value, rtol=1e-12)
    for one, other in zip(short, whole, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


def test_a_step_has_only_the_rows_that_go_on():
    network, rows = encoder(1), []
    network.cells[0][0].register_forward_hook(lambda cell, given, out: rows.append(len(out)))
    network(padded())
    assert rows == [sum(length > place for length in LENGTHS) for place in range(T)]


def test_rows_do_not_depend_on_one_another():
    network, x = encoder(), padded()
    whole = network(x)
    for row in range(B):
        assert torch.allclose(network(x[row : row + 1])[0], whole[row], atol=1e-12)
    assert torch.allclose(network(x[:, :8][[1, 2]]), whole[[1, 2]], atol=1e-12), "less padding is no matter"


def test_under_vmap_and_compiled():
    network, x = encoder(), padded()
    stacked = {name: torch.stack([p, 2 * p]) for name, p in network.named_parameters()}
    both = vmap(lambda parameters: functional_call(network, parameters, (x,)))(stacked)
    assert torch.allclose(both[0], network(x), atol=1e-12)
    tokens = torch.stack([x, x.roll(1, 0)])
    assert torch.allclose(vmap(network)(tokens)[1], network(x.roll(1, 0)), atol=1e-12)
    assert torch.allclose(torch.compile(network, fullgraph=True)(x), network(x), atol=1e-10)


def test_refuses_what_it_was_not_built_for():
    with pytest.raises(InputError, match="have 9 tokens; the network was built for 4"):
        RecurrentEncoder(V, 4, 2)(padded())
    with pytest.raises(InputError, match="layers ≥ 1"):
        RecurrentEncoder(V, 4, 2, layers=0)
