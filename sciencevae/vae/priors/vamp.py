"""The mixture of the posteriors of learned pseudo-inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from sciencevae.distributions import Mixture
from sciencevae.errors import InputError
from sciencevae.spec import recorded
from sciencevae.vae.context import Context
from sciencevae.vae.priors.normal import Prior

if TYPE_CHECKING:
    from sciencevae.vae.encoders import Encoder

__all__ = ["VampPrior"]

#: pseudo-inputs set to data keep this share of the range away from its ends, where a sigmoid has no slope
MARGIN = 0.01


@recorded
class VampPrior(Prior):
    """p(z) = Σ_k w_k q(z | u_k): posteriors of K learned pseudo-inputs u, (K, *shape). Tomczak & Welling 2018.

    encoder: the model's own, the same object: ``VAE(VampPrior(encoder, …), encoder, decoder)``. It is trained by
    both its uses; its parameters are the model's, not the prior's, and stored once.
    low, high: the range of the data, where they have one (grey values: 0 and 1): u = low + (high − low) sigmoid(v)
    with v learned, so that each u_k stays an image. (1)
    weights: "learned", or "uniform" as in the paper.
    condition_features: width c of the pseudo-conditions (K, c) that belong to the pseudo-inputs of a conditional
    encoder, p(z) = Σ_k w_k q(z | u_k, v_k); they are learned, and p(z) itself depends on no condition.

    (1) The paper's code clips with hardtanh; an entry that has left the range then gets no gradient any more.

    >>> from sciencevae import encoders
    >>> from sciencevae.networks import Perceptron
    >>> encoder = encoders.Gaussian(Perceptron(8, [16], 4), dim=2)
    >>> prior = VampPrior(encoder, components=10, shape=[8]).initialise(torch.randn(100, 8))
    >>> prior().sample((3,)).shape
    torch.Size([3, 2])
    """

    encoder: Encoder
    logits: Tensor

    def __init__(
        self,
        encoder: Encoder,
        components: int,
        shape: Sequence[int],
        low: float | None = None,
        high: float | None = None,
        weights: Literal["learned", "uniform"] = "learned",
        condition_features: int = 0,
    ) -> None:
        super().__init__()
        if components < 1 or (low is None) != (high is None) or weights not in ("learned", "uniform"):
            raise InputError(
                "a VampPrior has components ≥ 1, both low and high or neither, and weights 'learned' or 'uniform'; "
                f"found {components}, low={low}, high={high}, weights={weights!r}"
            )
        if low is not None and high is not None and not low < high:
            raise InputError(
                f"the range of a VampPrior's pseudo-inputs needs low < high, not {low} and {high}"
            )
        if getattr(encoder, "conditional", False) != bool(condition_features):
            raise InputError(
                "a VampPrior of a conditional encoder needs condition_features, the width of pseudo-conditions; "
                f"one of any other encoder has none; found condition_features={condition_features}"
            )
        # Not registered: it is a part of the model already. torch's functional_call puts back a module that stands
        # twice with the tensors it was called with.
        object.__setattr__(self, "encoder", encoder)
        self.dim, self.components, self.shape = encoder.dim, components, tuple(shape)
        self.low, self.high, self.condition_features = low, high, condition_features
        self.pseudo = nn.Parameter(torch.randn(components, *shape))
        self.conditions = (
            nn.Parameter(torch.randn(components, condition_features)) if condition_features else None
        )
        if weights == "learned":
            self.logits = nn.Parameter(torch.zeros(components))
        else:
            self.register_buffer("logits", torch.zeros(components), persistent=False)

    @property
    def pseudo_inputs(self) -> Tensor:
        """u (K, *shape), in the range of the data."""
        if self.low is None or self.high is None:
            return self.pseudo
        return self.low + (self.high - self.low) * self.pseudo.sigmoid()

    def forward(self, context: Context | None = None) -> Mixture:
        own = {} if self.conditions is None else {"condition": self.conditions}
        return Mixture(self.logits, self.encoder(self.pseudo_inputs, own))

    @torch.no_grad()
    def initialise(self, x: Tensor, condition: Tensor | None = None, seed: int = 0) -> VampPrior:
        """Set the pseudo-inputs (and pseudo-conditions) to random rows of training data x (N, *shape).

        Missing entries become 0, or the middle of the range.
        """
        if tuple(x.shape[1:]) != self.shape or len(x) < self.components:
            raise InputError(
                f"{self.components} pseudo-inputs of shape {self.shape} can't be taken from data of shape "
                f"{tuple(x.shape)}: give (N, *shape) with N ≥ {self.components}"
            )
        if (condition is None) != (self.conditions is None):
            raise InputError(
                "initialise takes the condition of x where the encoder is conditional, and only there"
            )
        rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[: self.components]
        u = x[rows.to(x.device)]
        if self.low is not None and self.high is not None:
            # outside the range nothing is an image: data that lie there are brought to its edge
            share = ((u - self.low) / (self.high - self.low)).clamp(MARGIN, 1 - MARGIN)
            u = torch.logit(torch.where(share.isnan(), 0.5, share))
        self.pseudo.copy_(torch.where(u.isnan(), 0.0, u))
        if condition is not None and self.conditions is not None:
            self.conditions.copy_(condition[rows.to(condition.device)])
        return self
