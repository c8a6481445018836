"""What a run is called, by its data sets, and what its analyses cite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sciencevae.methods import PAPERS
from sciencevae.registry import About

if TYPE_CHECKING:
    from sciencevae.runs import Run

__all__ = ["about"]

_SHOWN = {
    "mnist": ("digits", "MNIST"),
    "fashion_mnist": ("garments", "Fashion-MNIST"),
    "dsprites": ("sprites", "dSprites"),
}


def about(run: Run) -> About:
    """Title by the data sets, summary by the analyses that found something, citations by what they measured."""
    settings = [variant.settings for variant in run.variants.values()]
    shown = dict.fromkeys(_SHOWN.get(one.dataset, ("", one.dataset)) for one in settings)
    things = "" if run.input else " and ".join(thing for thing, _ in shown if thing)
    source = run.input.name if run.input else " and ".join(name for _, name in shown)
    found = [name for name in run.domain.analyses if run.metrics.get(name)]
    papers = {
        "AnCho2015": any(one.prepare.anomaly is not None for one in settings),
        "Burda2016": "likelihood" in found,
        **dict.fromkeys(
            ("Chen2018", "KimMnih2018", "EastwoodWilliams2018", "Kumar2018"), "disentanglement" in found
        ),
    }
    cited = [PAPERS[key] for key, is_used in papers.items() if is_used]
    title = f"Images of {things}" if things else "Images"
    return About(title, f"{source}: {', '.join(found) or 'models trained'}", tuple(cited))
