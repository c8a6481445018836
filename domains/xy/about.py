"""What the page of a run cites: the sampler, where it made the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sciencevae.registry import About

if TYPE_CHECKING:
    from sciencevae.runs import Run

__all__ = ["about"]

WOLFF = """@article{Wolff1989,
  author = {Wolff, U.}, title = {Collective {Monte} {Carlo} updating for spin systems},
  journal = {Physical Review Letters}, volume = {62}, pages = {361--364}, year = {1989},
  doi = {10.1103/PhysRevLett.62.361}
}"""
CREUTZ = """@article{Creutz1987,
  author = {Creutz, M.}, title = {Overrelaxation and {Monte} {Carlo} simulation},
  journal = {Physical Review D}, volume = {36}, pages = {515--519}, year = {1987},
  doi = {10.1103/PhysRevD.36.515}
}"""


def about(run: Run) -> About:
    """A user's own configurations were not drawn here."""
    domain = run.domain
    return About(domain.title, domain.summary, () if run.input else (WOLFF, CREUTZ))
