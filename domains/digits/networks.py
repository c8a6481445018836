"""The network that the completed quadrants are compared with."""

from __future__ import annotations

from torch import Tensor, nn

from sciencevae.spec import recorded

__all__ = ["ConditionAlone"]


@recorded
class ConditionAlone(nn.Module):
    """A decoder's network that sees the condition and no latents: (B, D), (B, c) → network(condition).

    With it a conditional VAE is a deterministic network trained on the same loop: its posterior has nothing to
    say, KL(q ‖ p) = 0, and −ELBO is the cross entropy −log p(x | c).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.out_features = network.out_features

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        return self.network(condition)
