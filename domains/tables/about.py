"""What the page of a run cites: missing values and likelihoods by column, anomalies, and their peers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sciencevae.methods import PAPERS
from sciencevae.registry import About

if TYPE_CHECKING:
    from sciencevae.runs import Run

__all__ = ["about"]

NAZABAL = """@article{NazabalEtAl2020,
  author = {Naz{\\'a}bal, Alfredo and Olmos, Pablo M. and Ghahramani, Zoubin and Valera, Isabel},
  title = {Handling incomplete heterogeneous data using {VAEs}},
  journal = {Pattern Recognition}, volume = {107}, pages = {107501}, year = {2020},
  doi = {10.1016/j.patcog.2020.107501}
}"""
LIU = """@inproceedings{Liu2008,
  author = {Liu, F. T. and Ting, K. M. and Zhou, Z.-H.}, title = {Isolation forest},
  booktitle = {IEEE International Conference on Data Mining}, pages = {413--422}, year = {2008},
  doi = {10.1109/ICDM.2008.17}
}"""
RAMASWAMY = """@inproceedings{Ramaswamy2000,
  author = {Ramaswamy, S. and Rastogi, R. and Shim, K.},
  title = {Efficient algorithms for mining outliers from large data sets},
  booktitle = {ACM SIGMOD International Conference on Management of Data}, pages = {427--438}, year = {2000},
  doi = {10.1145/342009.335437}
}"""


def about(run: Run) -> About:
    """Peers are cited where anomalies are known, and detection could be measured."""
    peers = (LIU, RAMASWAMY) if run.metrics.get("detection") else ()
    return About(run.domain.title, run.domain.summary, (PAPERS["AnCho2015"], NAZABAL, *peers))
