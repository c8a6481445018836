"""What the page of a run cites, beside the methods of its parts: the system it is after, and features."""

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

DALAL = """@inproceedings{DalalTriggs2005,
  author = {Dalal, Navneet and Triggs, Bill},
  title = {Histograms of oriented gradients for human detection}, booktitle = {CVPR}, pages = {886--893},
  year = {2005}, doi = {10.1109/CVPR.2005.177}
}"""


def about(run: Run) -> About:
    """Of photographs the page says what they may not be used for; drawn faces cite the system themselves."""
    domain = run.domain
    if run.input is None and run.settings.dataset == "faces":
        return About(domain.title, domain.summary, (DALAL,))
    who = "the people who consented" if run.input is None else "people who agreed"
    warning = f". Of {who}: not for recognising, profiling or deceiving anyone"
    return About(domain.title, domain.summary + warning, (YEH, DALAL))
