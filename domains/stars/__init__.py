"""Stars: clusters found in a catalogue of positions, parallaxes and proper motions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sciencevae.builtin.stars.settings import Stars

from sciencevae.registry import Domain, Findings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import xarray as xr
    from matplotlib.figure import Figure

    from sciencevae.runs import Run
    from sciencevae.vae.model import VAE
    from sciencevae.vae.objectives import Objective

__all__ = ["DOMAIN", "build", "objective"]


def build(settings: Stars, data: xr.Dataset) -> VAE:
    """The three distributions: a mixture prior, a diagonal Gaussian posterior, and known noise plus scatter."""
    import numpy as np
    from sciencevae.builtin.stars.kinematics import directions
    from sciencevae.builtin.stars.networks import StarDecoder, StarEncoder

    from sciencevae.data.scaling import Scaling
    from sciencevae.vae import decoders, encoders, priors
    from sciencevae.vae.model import VAE

    chosen, scaling = settings.model, Scaling.of(data).fields["x"]
    provenance = json.loads(data.attrs["provenance"])
    field = {
        "loc": scaling.loc.tolist(),
        "scale": scaling.scale.tolist(),
        "centre": directions(*np.array(provenance["centre_deg"])).tolist(),
        "radius_deg": provenance["radius_deg"],
    }
    network = (field, list(chosen.hidden), chosen.latent, chosen.perspective)
    prior = (
        priors.GaussianMixture(chosen.latent, chosen.components)
        if chosen.prior == "mixture"
        else priors.StandardNormal(chosen.latent)
    )
    return VAE(
        prior,
        encoders.Gaussian(StarEncoder(*network), chosen.latent, missing=True, conditional=True),
        decoders.Gaussian(
            StarDecoder(*network),
            scale="per-datum",
            intrinsic="learned",
            initial=0.3,
            conditional=True,
        ),
    )


def objective(settings: Stars, data: xr.Dataset) -> Objective:
    """The evidence lower bound."""
    from sciencevae.vae.objectives import ELBO

    return ELBO(beta=settings.objective.beta)


# heavy imports wait until a stage needs them


def _prepare(settings: Stars, files: Mapping[str, Path], input: Path | None) -> xr.Dataset:
    from sciencevae.builtin.stars.dataset import prepare

    return prepare(settings, files, input)


def _read(path: Path, settings: Stars) -> Iterator[xr.Dataset]:
    from sciencevae.builtin.stars.dataset import read

    return read(path, settings)


def _clusters(run: Run) -> Findings:
    from sciencevae.builtin.stars.analysis import clusters

    return clusters(run)


def _figure(name: str) -> Callable[[Run], tuple[Figure, str]]:
    def draw(run: Run) -> tuple[Figure, str]:
        from sciencevae.builtin.stars import figures

        drawn: tuple[Figure, str] = getattr(figures, name)(run)
        return drawn

    return draw


DOMAIN = Domain(
    name="stars",
    title="Star clusters in Hipparcos",
    summary="the Hyades and the Pleiades, found without being told where they are",
    settings=Stars,
    prepare=_prepare,
    build=build,
    objective=objective,
    read=_read,
    analyses={"clusters": _clusters},
    figures={
        name: _figure(name)
        for name in ("sky", "convergent_point", "proper_motion", "parallax", "colour_magnitude", "latent_map")
    },
    citations=(
        """@article{BovyHoggRoweis2011,
  author = {Bovy, J. and Hogg, D. W. and Roweis, S. T.},
  title = {Extreme deconvolution: inferring complete distribution functions from noisy, heterogeneous and
           incomplete observations},
  journal = {Annals of Applied Statistics}, volume = {5}, pages = {1657--1677}, year = {2011},
  doi = {10.1214/10-AOAS439}
}""",
        """@article{Perryman1998,
  author = {Perryman, M. A. C. and others},
  title = {The {Hyades}: distance, structure, dynamics, and age},
  journal = {Astronomy and Astrophysics}, volume = {331}, pages = {81--120}, year = {1998}
}""",
        """@article{vanLeeuwen2009,
  author = {{van Leeuwen}, F.},
  title = {Parallaxes and proper motions for 20 open clusters as based on the new {Hipparcos} catalogue},
  journal = {Astronomy and Astrophysics}, volume = {497}, pages = {209--242}, year = {2009},
  doi = {10.1051/0004-6361/200811382}
}""",
    ),
)
