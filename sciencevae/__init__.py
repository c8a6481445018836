"""Scientific pipelines around one variational-autoencoder core: p(z|c), q(z|x,c) and p(x|z,c) as modules.

The public names load on first use, so importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sciencevae.batch import Batch
    from sciencevae.latents.score import Evidence, anomaly_score, log_evidence
    from sciencevae.registry import dataset, domain, domains
    from sciencevae.training.ensemble import fit_ensemble
    from sciencevae.training.loop import History, fit
    from sciencevae.training.settings import TrainingSettings
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
    "Evidence": "sciencevae.latents.score",
    "History": "sciencevae.training",
    "TrainingSettings": "sciencevae.training.settings",
    "VAE": "sciencevae.vae",
    "anomaly_score": "sciencevae.latents.score",
    "dataset": "sciencevae.registry",
    "domain": "sciencevae.registry",
    "domains": "sciencevae.registry",
    "fit": "sciencevae.training",
    "fit_ensemble": "sciencevae.training",
    "load": "sciencevae.vae",
    "log_evidence": "sciencevae.latents.score",
    "save": "sciencevae.vae",
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
