"""Scientific pipelines around one variational-autoencoder core: p(z|c), q(z|x,c) and p(x|z,c) as modules.

The public names load on first use, so importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sciencevae import distributions, networks
    from sciencevae.batch import Batch
    from sciencevae.latents.collapse import latent_use
    from sciencevae.latents.disentangle import disentanglement
    from sciencevae.latents.score import anomaly_score, auc, threshold
    from sciencevae.latents.traverse import analogy, interpolate, manifold, traverse
    from sciencevae.registry import dataset, domain, domains
    from sciencevae.training import schedules
    from sciencevae.training.ensemble import fit_ensemble
    from sciencevae.training.history import History
    from sciencevae.training.loop import fit
    from sciencevae.training.settings import TrainingSettings
    from sciencevae.vae import decoders, encoders, objectives, priors
    from sciencevae.vae.annealing import annealed_evidence
    from sciencevae.vae.evidence import Evidence, log_evidence
    from sciencevae.vae.files import load, save
    from sciencevae.vae.fit_prior import fit_prior
    from sciencevae.vae.model import VAE
    from sciencevae.vae.refine import refine
    from sciencevae.vae.vq import VQVAE

__all__ = [
    "VAE",
    "VQVAE",
    "Batch",
    "Evidence",
    "History",
    "TrainingSettings",
    "analogy",
    "annealed_evidence",
    "anomaly_score",
    "auc",
    "dataset",
    "decoders",
    "disentanglement",
    "distributions",
    "domain",
    "domains",
    "encoders",
    "fit",
    "fit_ensemble",
    "fit_prior",
    "interpolate",
    "latent_use",
    "load",
    "log_evidence",
    "manifold",
    "networks",
    "objectives",
    "priors",
    "refine",
    "save",
    "schedules",
    "threshold",
    "traverse",
]

__version__ = "0.1.0"

# public name -> module it lives in; a module that is itself public maps to itself
_HOMES = {
    "Batch": "sciencevae.batch",
    "Evidence": "sciencevae.vae.evidence",
    "History": "sciencevae.training.history",
    "TrainingSettings": "sciencevae.training.settings",
    "VAE": "sciencevae.vae.model",
    "VQVAE": "sciencevae.vae.vq",
    "analogy": "sciencevae.latents.traverse",
    "annealed_evidence": "sciencevae.vae.annealing",
    "anomaly_score": "sciencevae.latents.score",
    "auc": "sciencevae.latents.score",
    "dataset": "sciencevae.registry",
    "disentanglement": "sciencevae.latents.disentangle",
    "domain": "sciencevae.registry",
    "domains": "sciencevae.registry",
    "fit": "sciencevae.training.loop",
    "fit_ensemble": "sciencevae.training.ensemble",
    "fit_prior": "sciencevae.vae.fit_prior",
    "interpolate": "sciencevae.latents.traverse",
    "latent_use": "sciencevae.latents.collapse",
    "load": "sciencevae.vae.files",
    "log_evidence": "sciencevae.vae.evidence",
    "manifold": "sciencevae.latents.traverse",
    "refine": "sciencevae.vae.refine",
    "save": "sciencevae.vae.files",
    "threshold": "sciencevae.latents.score",
    "traverse": "sciencevae.latents.traverse",
}
_MODULES = {
    "decoders": "sciencevae.vae.decoders",
    "distributions": "sciencevae.distributions",
    "encoders": "sciencevae.vae.encoders",
    "networks": "sciencevae.networks",
    "objectives": "sciencevae.vae.objectives",
    "priors": "sciencevae.vae.priors",
    "schedules": "sciencevae.training.schedules",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value: Any = importlib.import_module(_MODULES[name])
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'sciencevae' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
