"""What the page of a run cites, beside the methods of its parts: the system that this one is after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sciencevae.registry import About

if TYPE_CHECKING:
    from sciencevae.runs import Run

__all__ = ["about"]

YEH = """@misc{Yeh2016,
  author = {Yeh, Raymond and Liu, Ziwei and Goldman, Dan B and Agarwala, Aseem},
  title = {Semantic facial expression editing using autoencoded flow}, year = {2016},
  eprint = {1611.09961}, archivePrefix = {arXiv}
}"""


def about(run: Run) -> About:
    """Of photographs the page says what they may not be used for; drawn faces cite the system themselves."""
    domain = run.domain
    if run.settings.dataset == "faces":
        return About(domain.title, domain.summary, ())
    warning = ". Of people who consented: not for recognising, profiling or deceiving anyone"
    return About(domain.title, domain.summary + warning, (YEH,))
