"""What heads the page of a run, and what it cites, by its kind of source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sciencevae.registry import About

if TYPE_CHECKING:
    from sciencevae.runs import Run

__all__ = ["about"]

THOMPSON = """@article{Thompson1987,
  author = {Thompson, P. and Cox, D. E. and Hastings, J. B.},
  title = {Rietveld refinement of {Debye--Scherrer} synchrotron {X}-ray data from {Al2O3}},
  journal = {Journal of Applied Crystallography}, volume = {20}, pages = {79--83}, year = {1987},
  doi = {10.1107/S0021889887087090}
}"""
DOLLASE = """@article{Dollase1986,
  author = {Dollase, W. A.},
  title = {Correction of intensities for preferred orientation in powder diffractometry: application of the {March}
           model},
  journal = {Journal of Applied Crystallography}, volume = {19}, pages = {267--272}, year = {1986},
  doi = {10.1107/S0021889886089458}
}"""
RYAN = """@article{Ryan1988,
  author = {Ryan, C. G. and Clayton, E. and Griffin, W. L. and Sie, S. H. and Cousens, D. R.},
  title = {{SNIP}, a statistics-sensitive background treatment for the quantitative analysis of {PIXE} spectra in
           geoscience applications},
  journal = {Nuclear Instruments and Methods in Physics Research B}, volume = {34}, pages = {396--402},
  year = {1988}, doi = {10.1016/0168-583X(88)90063-8}
}"""


def about(run: Run) -> About:
    """Powders have a heading and citations of their own."""
    if run.main.settings.source.kind != "powder":
        return About(run.domain.title, run.domain.summary, run.domain.citations)
    summary = (
        "which phases powder patterns hold, which patterns hold none of them, and the rate behind few counts"
    )
    return About("X-ray powder diffraction", summary, (THOMPSON, DOLLASE, RYAN))
