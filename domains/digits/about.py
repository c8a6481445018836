"""What a run is called and cites: the data sets and methods that it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sciencevae.registry import About

if TYPE_CHECKING:
    from sciencevae.runs import Run

__all__ = ["about"]

KINGMA_WELLING = """@inproceedings{KingmaWelling2014,
  author = {Kingma, D. P. and Welling, M.}, title = {Auto-encoding variational {Bayes}},
  booktitle = {International Conference on Learning Representations}, year = {2014},
  eprint = {1312.6114}, archivePrefix = {arXiv}
}"""
SOHN = """@inproceedings{Sohn2015,
  author = {Sohn, K. and Lee, H. and Yan, X.},
  title = {Learning structured output representation using deep conditional generative models},
  booktitle = {Advances in Neural Information Processing Systems}, volume = {28}, year = {2015}
}"""
AN_CHO = """@techreport{AnCho2015,
  author = {An, J. and Cho, S.},
  title = {Variational autoencoder based anomaly detection using reconstruction probability},
  institution = {SNU Data Mining Center}, year = {2015}
}"""

_SHOWN = {
    "mnist": ("digits", "MNIST"),
    "fashion_mnist": ("garments", "Fashion-MNIST"),
    "dsprites": ("sprites", "dSprites"),
}


def about(run: Run) -> About:
    """Title by the data sets, summary by the analyses that found something, citations by the models."""
    settings = [variant.settings for variant in run.variants.values()]
    shown = dict.fromkeys(_SHOWN.get(one.dataset, ("", one.dataset)) for one in settings)
    things = "" if run.input else " and ".join(thing for thing, _ in shown if thing)
    source = run.input.name if run.input else " and ".join(name for _, name in shown)
    found = [name for name in run.domain.analyses if run.metrics.get(name)]
    cited = [KINGMA_WELLING]
    if any(one.prepare.condition != "none" for one in settings):
        cited.append(SOHN)
    if any(one.prepare.anomaly is not None for one in settings):
        cited.append(AN_CHO)
    title = f"Images of {things}" if things else "Images"
    return About(title, f"{source}: {', '.join(found) or 'models trained'}", tuple(cited))
