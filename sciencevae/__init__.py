"""Scientific pipelines around one variational-autoencoder core: p(z|c), q(z|x,c) and p(x|z,c) as modules.

The public names load on first use, so importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sciencevae import distributions, networks
    from sciencevae.batch import Batch
    from sciencevae.latents.score import anomaly_score
    from sciencevae.registry import dataset, domain, domains
    from sciencevae.training.ensemble import fit_ensemble
    from sciencevae.training.history import History
    from sciencevae.training.loop import fit
    from sciencevae.training.settings import TrainingSettings
    from sciencevae.vae import decoders, encoders, objectives, priors
    from sciencevae.vae.evidence import Evidence, log_evidence
    from sciencevae.vae.files import load, save
    from sciencevae.vae.model import VAE

__all__ = [
    "VAE",
    "Batch",
    "Evidence",
    "History",
    "TrainingSettings",
    "anomaly_score",
    "dataset",
    "decoders",
    "distributions",
    "domain",
    "domains",
    "encoders",
    "fit",
    "fit_ensemble",
    "load",
    "log_evidence",
    "networks",
    "objectives",
    "priors",
    "save",
]

__version__ = "0.1.0"

# public name -> module it lives in; a module that is itself public maps to itself
_HOMES = {
    "Batch": "sciencevae.batch",
    "Evidence": "sciencevae.vae.evidence",
    "History": "sciencevae.training.history",
    "TrainingSettings": "sciencevae.training.settings",
    "VAE": "sciencevae.vae.model",
    "anomaly_score": "sciencevae.latents.score",
    "dataset": "sciencevae.registry",
    "domain": "sciencevae.registry",
    "domains": "sciencevae.registry",
    "fit": "sciencevae.training.loop",
    "fit_ensemble": "sciencevae.training.ensemble",
    "load": "sciencevae.vae.files",
    "log_evidence": "sciencevae.vae.evidence",
    "save": "sciencevae.vae.files",
}
_MODULES = {
    "decoders": "sciencevae.vae.decoders",
    "distributions": "sciencevae.distributions",
    "encoders": "sciencevae.vae.encoders",
    "networks": "sciencevae.networks",
    "objectives": "sciencevae.vae.objectives",
    "priors": "sciencevae.vae.priors",
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
