"""What the packages that a run computes with ask to be cited by, as BibTeX."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sciencevae import __version__

if TYPE_CHECKING:
    from sciencevae.registry import Domain

__all__ = ["ALWAYS", "SOFTWARE", "used_by"]

#: name of a distribution -> BibTeX
SOFTWARE = {
    "sciencevae": rf"""@misc{{sciencevae,
  author = {{{{The sciencevae developers}}}},
  title = {{sciencevae: scientific pipelines around one variational-autoencoder core}},
  note = {{Version {__version__}}}, year = {{2026}}
}}""",
    "torch": r"""@inproceedings{Ansel2024,
  author = {Ansel, J. and Yang, E. and He, H. and others},
  title = {{PyTorch} 2: faster machine learning through dynamic {Python} bytecode transformation and graph
           compilation},
  booktitle = {ACM International Conference on Architectural Support for Programming Languages and Operating
               Systems}, pages = {929--947}, year = {2024}, doi = {10.1145/3620665.3640366}
}""",
    "numpy": r"""@article{Harris2020,
  author = {Harris, C. R. and Millman, K. J. and {van der Walt}, S. J. and others},
  title = {Array programming with {NumPy}}, journal = {Nature}, volume = {585}, pages = {357--362},
  year = {2020}, doi = {10.1038/s41586-020-2649-2}
}""",
    "xarray": r"""@article{HoyerHamman2017,
  author = {Hoyer, S. and Hamman, J.}, title = {xarray: {N-D} labeled arrays and datasets in {Python}},
  journal = {Journal of Open Research Software}, volume = {5}, number = {1}, pages = {10}, year = {2017},
  doi = {10.5334/jors.148}
}""",
    "dask": r"""@inproceedings{Rocklin2015,
  author = {Rocklin, M.},
  title = {Dask: parallel computation with blocked algorithms and task scheduling},
  booktitle = {Python in Science Conference}, pages = {126--132}, year = {2015},
  doi = {10.25080/Majora-7b98e3ed-013}
}""",
    "snakemake": r"""@article{Molder2021,
  author = {M{\"o}lder, F. and Jablonski, K. P. and Letcher, B. and others},
  title = {Sustainable data analysis with {Snakemake}}, journal = {F1000Research}, volume = {10}, pages = {33},
  year = {2021}, doi = {10.12688/f1000research.29032.2}
}""",
    "scipy": r"""@article{Virtanen2020,
  author = {Virtanen, P. and Gommers, R. and Oliphant, T. E. and others},
  title = {{SciPy} 1.0: fundamental algorithms for scientific computing in {Python}},
  journal = {Nature Methods}, volume = {17}, pages = {261--272}, year = {2020},
  doi = {10.1038/s41592-019-0686-2}
}""",
    "scikit-learn": r"""@article{Pedregosa2011,
  author = {Pedregosa, F. and Varoquaux, G. and Gramfort, A. and others},
  title = {Scikit-learn: machine learning in {Python}}, journal = {Journal of Machine Learning Research},
  volume = {12}, pages = {2825--2830}, year = {2011}
}""",
    "numba": r"""@inproceedings{Lam2015,
  author = {Lam, S. K. and Pitrou, A. and Seibert, S.},
  title = {Numba: a {LLVM}-based {Python} {JIT} compiler},
  booktitle = {Workshop on the {LLVM} Compiler Infrastructure in {HPC}}, pages = {1--6}, year = {2015},
  doi = {10.1145/2833157.2833162}
}""",
    "astropy": r"""@article{Astropy2022,
  author = {{Astropy Collaboration}},
  title = {The {Astropy} {Project}: sustaining and growing a community-oriented open-source project and the latest
           major release (v5.0) of the core package},
  journal = {The Astrophysical Journal}, volume = {935}, number = {2}, pages = {167}, year = {2022},
  doi = {10.3847/1538-4357/ac7c74}
}""",
    "rdkit": r"""@misc{RDKit,
  author = {Landrum, G. and others}, title = {{RDKit}: open-source cheminformatics},
  doi = {10.5281/zenodo.591637}
}""",
    "gemmi": r"""@article{Wojdyr2022,
  author = {Wojdyr, M.}, title = {{GEMMI}: a library for structural biology},
  journal = {Journal of Open Source Software}, volume = {7}, number = {73}, pages = {4200}, year = {2022},
  doi = {10.21105/joss.04200}
}""",
    "mitsuba": r"""@misc{Mitsuba3,
  author = {Jakob, W. and Speierer, S. and Roussel, N. and Nimier-David, M. and Vicini, D. and Zeltner, T. and
            Nicolet, B. and Crespo, M. and Leroy, V. and Zhang, Z.},
  title = {Mitsuba 3 renderer}, year = {2022}, note = {https://mitsuba-renderer.org}
}""",
    "pydmd": r"""@article{Demo2018,
  author = {Demo, N. and Tezzele, M. and Rozza, G.}, title = {{PyDMD}: {Python} dynamic mode decomposition},
  journal = {Journal of Open Source Software}, volume = {3}, number = {22}, pages = {530}, year = {2018},
  doi = {10.21105/joss.00530}
}""",
    "botorch": r"""@inproceedings{Balandat2020,
  author = {Balandat, M. and Karrer, B. and Jiang, D. R. and Daulton, S. and Letham, B. and Wilson, A. G. and
            Bakshy, E.},
  title = {{BoTorch}: a framework for efficient {Monte-Carlo} {Bayesian} optimization},
  booktitle = {Advances in Neural Information Processing Systems}, volume = {33}, year = {2020}
}""",
}
#: with which every run computes
ALWAYS = ("sciencevae", "torch", "numpy", "xarray", "dask", "snakemake")
_MODULES = {"scikit-learn": "sklearn"}


def used_by(domain: Domain) -> list[str]:
    """The distributions that a run of the domain computes with: those of every run, and what its modules import."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in sorted(domain.folder.glob("*.py")))
    imported = set(re.findall(r"^\s*(?:from|import) (\w+)", source, re.MULTILINE))
    return [*ALWAYS, *(n for n in SOFTWARE if n not in ALWAYS and _MODULES.get(n, n) in imported)]
