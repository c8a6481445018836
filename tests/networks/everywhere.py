"""What every network is put through.

A module of its own name: compiled code looks its globals up by module, and there is more than one ``conftest``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from sciencevae.spec import describe, rebuild


def trains_everywhere(
    make: Callable[[], nn.Module], inputs: tuple[Tensor, ...], compiled: bool = True
) -> None:
    """In double precision: every parameter has a gradient; grad, vmap over two members and one compiled graph
    equal ``backward``; the description rebuilds the network."""
    torch.manual_seed(0)
    members = [make().double() for _ in range(2)]
    network = members[0]
    generator = torch.Generator().manual_seed(1)
    for parameter in [p for m in members for p in m.parameters()]:
        # away from what is 0 or equal at the start
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    out = network(*inputs)
    assert out.dtype == torch.float64
    weight = torch.randn(out.shape, generator=generator, dtype=torch.float64)

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return (weight * functional_call(network, parameters, inputs)).sum()

    (weight * out).sum().backward()
    found = grad(loss)({name: p.detach() for name, p in network.named_parameters()})
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().max() > 0, name
        assert torch.allclose(found[name], parameter.grad, atol=1e-9), name

    stacked, _ = torch.func.stack_module_state(members)
    stacked = {name: p.detach() for name, p in stacked.items()}
    together = vmap(grad(loss), randomness="different")(stacked)
    for member in range(2):
        alone = grad(loss)({name: p[member] for name, p in stacked.items()})
        for name in alone:
            assert torch.allclose(together[name][member], alone[name], atol=1e-9), name

    if compiled:
        torch._dynamo.reset()
        graph = torch.compile(grad(loss), fullgraph=True, dynamic=False)
        of_graph = graph({name: p.detach() for name, p in network.named_parameters()})
        for name in found:
            assert torch.allclose(of_graph[name], found[name], atol=1e-9), name

    again = rebuild(describe(network))
    assert {n: p.shape for n, p in again.named_parameters()} == {
        n: p.shape for n, p in network.named_parameters()
    }
