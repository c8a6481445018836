"""What the page of a run cites: the forecasters that were fitted, and what they stand beside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sciencevae.registry import About

if TYPE_CHECKING:
    from sciencevae.runs import Run

__all__ = ["about"]

# the key is that of the smoke's manifest: it is the same paper
WIEWEL = """@article{Wiewel2019,
  author = {Wiewel, Steffen and Becher, Moritz and Thuerey, Nils},
  title = {Latent space physics: towards learning the temporal evolution of fluid flow},
  journal = {Computer Graphics Forum}, volume = {38}, number = {2}, pages = {71--82}, year = {2019},
  doi = {10.1111/cgf.13620}
}"""
SIROVICH = """@article{Sirovich1987,
  author = {Sirovich, L.},
  title = {Turbulence and the dynamics of coherent structures. {Part I}: coherent structures},
  journal = {Quarterly of Applied Mathematics}, volume = {45}, pages = {561--571}, year = {1987},
  doi = {10.1090/qam/910462}
}"""
SCHMID = """@article{Schmid2010,
  author = {Schmid, P. J.}, title = {Dynamic mode decomposition of numerical and experimental data},
  journal = {Journal of Fluid Mechanics}, volume = {656}, pages = {5--28}, year = {2010},
  doi = {10.1017/S0022112010001217}
}"""
ARBABI = """@article{ArbabiMezic2017,
  author = {Arbabi, H. and Mezi{\\'c}, I.},
  title = {Ergodic theory, dynamic mode decomposition, and computation of spectral properties of the {Koopman}
           operator},
  journal = {SIAM Journal on Applied Dynamical Systems}, volume = {16}, pages = {2096--2126}, year = {2017},
  doi = {10.1137/17M1125236}
}"""
QIN = """@article{Qin2019,
  author = {Qin, T. and Wu, K. and Xiu, D.},
  title = {Data driven governing equations approximation using deep neural networks},
  journal = {Journal of Computational Physics}, volume = {395}, pages = {620--635}, year = {2019},
  doi = {10.1016/j.jcp.2019.06.042}
}"""


def about(run: Run) -> About:
    """POD is always beside the model, DMD where forecasts are; a forecaster counts once it was tried."""
    forecast = bool(run.metrics.get("forecast"))
    tried = run.settings.analyse.forecasters
    used = {
        WIEWEL: forecast,  # forecasts in the latents of frames, by the recurrent network above all
        SIROVICH: True,
        SCHMID: forecast,
        ARBABI: forecast,
        QIN: forecast and "residual" in tried,
    }
    cited = tuple(entry for entry, is_used in used.items() if is_used)
    return About(run.domain.title, run.domain.summary, cited)
