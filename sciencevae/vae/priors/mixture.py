"""A mixture of normal distributions as prior."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from sciencevae.distributions import DiagonalNormal, FullNormal, Mixture
from sciencevae.errors import InputError
from sciencevae.spec import recorded
from sciencevae.vae.context import Context
from sciencevae.vae.priors.normal import Prior, tril_from_flat

__all__ = ["GaussianMixture"]

Covariance = Literal["diagonal", "full"]


@recorded
class GaussianMixture(Prior):
    """p(z) = Σ_k π_k N(z; μ_k, Σ_k), learned with the model or fitted to its latents afterwards (``fit``).

    Shapes: logits (K,), loc (K, D); covariance "diagonal": log scale (K, D); "full": the lower triangle of the
    Cholesky factor, its diagonal as logarithms, (K, D(D+1)/2). Fitting afterwards replaces N(0, 1) by the
    aggregate posterior. Joint training: VaDE (Jiang et al. 2017), whose bound has responsibilities of a datum as
    variational parameters, where here log p(z) itself is averaged over the draws. It starts from clusters:

        fit(model, x)                                                             # with StandardNormal
        fit_prior(model, x, GaussianMixture(model.dim, components=5, covariance="full"))
        fit(model, x)                                                             # mixture and networks together
    """

    def __init__(self, dim: int, components: int, covariance: Covariance = "diagonal") -> None:
        super().__init__()
        if covariance not in ("diagonal", "full"):
            raise InputError(f"covariance is 'diagonal' or 'full', not {covariance!r}")
        self.dim, self.components, self.covariance = dim, components, covariance
        self.logits = nn.Parameter(torch.zeros(components))
        # components must differ at the start, or their gradients never do: the K points of a sphere-like
        # spread over N(0, 1), from a generator of its own so that building a model leaves the user's alone
        generator = torch.Generator().manual_seed(components * 1009 + dim)
        self.loc = nn.Parameter(torch.randn(components, dim, generator=generator))
        size = dim if covariance == "diagonal" else dim * (dim + 1) // 2
        self.root = nn.Parameter(torch.zeros(components, size))

    def _components(self) -> DiagonalNormal | FullNormal:
        if self.covariance == "diagonal":
            return DiagonalNormal(self.loc, self.root.exp())
        return FullNormal(self.loc, tril_from_flat(self.root, self.dim))

    def forward(self, context: Context | None = None) -> Mixture:
        return Mixture(self.logits, self._components())

    def responsibilities(self, z: Tensor) -> Tensor:
        """p(k | z), (..., K)."""
        log_joint = self._components().log_prob(z.unsqueeze(-2)) + self.logits.log_softmax(-1)
        return log_joint.softmax(-1)

    @torch.no_grad()
    def fit(self, z: Tensor, seed: int = 0, restarts: int = 1) -> GaussianMixture:
        """Set the mixture to the maximum-likelihood fit to latents z (N, D) by EM (scikit-learn)."""
        from sciencevae.latents.cluster import fit_gaussians

        kind: Literal["diag", "full"] = "diag" if self.covariance == "diagonal" else "full"
        if len(z) < self.components:
            raise InputError(f"a mixture of {self.components} components needs more than {len(z)} latents")
        latents = z.detach().cpu().numpy()  # in its own precision: float32 takes half the time of float64
        em = fit_gaussians(latents, self.components, covariance=kind, seed=seed, restarts=restarts)

        def put(target: Tensor, value: Tensor) -> None:
            target.copy_(value.to(target))

        put(self.logits, torch.from_numpy(em.weights_).log())
        put(self.loc, torch.from_numpy(em.means_))
        covariances = torch.from_numpy(em.covariances_)
        if kind == "diag":
            put(self.root, 0.5 * covariances.log())
        else:
            factor = torch.linalg.cholesky(covariances)
            diagonal = factor.diagonal(dim1=-2, dim2=-1).log()
            factor = factor.tril(-1) + torch.diag_embed(diagonal)
            rows, columns = torch.tril_indices(self.dim, self.dim)
            put(self.root, factor[:, rows, columns])
        return self
