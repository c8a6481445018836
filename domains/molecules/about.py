"""What heads the page of a run, and what it cites."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sciencevae.registry import About

if TYPE_CHECKING:
    from sciencevae.runs import Run

__all__ = ["about"]

GOMEZ_BOMBARELLI = r"""@article{GomezBombarelli2018,
  author = {G{\'o}mez-Bombarelli, R. and Wei, J. N. and Duvenaud, D. and Hern{\'a}ndez-Lobato, J. M. and
            S{\'a}nchez-Lengeling, B. and Sheberla, D. and Aguilera-Iparraguirre, J. and Hirzel, T. D. and
            Adams, R. P. and Aspuru-Guzik, A.},
  title = {Automatic chemical design using a data-driven continuous representation of molecules},
  journal = {ACS Central Science}, volume = {4}, number = {2}, pages = {268--276}, year = {2018},
  doi = {10.1021/acscentsci.7b00572}
}"""
BOWMAN = """@inproceedings{Bowman2016,
  author = {Bowman, S. R. and Vilnis, L. and Vinyals, O. and Dai, A. M. and Jozefowicz, R. and Bengio, S.},
  title = {Generating sentences from a continuous space},
  booktitle = {Conference on Computational Natural Language Learning}, pages = {10--21}, year = {2016},
  doi = {10.18653/v1/K16-1002}
}"""
KRENN = r"""@article{Krenn2020,
  author = {Krenn, M. and H{\"a}se, F. and Nigam, A. and Friederich, P. and Aspuru-Guzik, A.},
  title = {Self-referencing embedded strings ({SELFIES}): a 100\% robust molecular string representation},
  journal = {Machine Learning: Science and Technology}, volume = {1}, number = {4}, pages = {045024},
  year = {2020}, doi = {10.1088/2632-2153/aba947}
}"""
POLYKOVSKIY = """@article{Polykovskiy2020,
  author = {Polykovskiy, D. and Zhebrak, A. and Sanchez-Lengeling, B. and Golovanov, S. and Tatanov, O. and
            Belyaev, S. and Kurbanov, R. and Artamonov, A. and Aladinskiy, V. and Veselov, M. and Kadurin, A. and
            Johansson, S. and Chen, H. and Nikolenko, S. and Aspuru-Guzik, A. and Zhavoronkov, A.},
  title = {Molecular sets ({MOSES}): a benchmarking platform for molecular generation models},
  journal = {Frontiers in Pharmacology}, volume = {11}, pages = {565644}, year = {2020},
  doi = {10.3389/fphar.2020.565644}
}"""
PREUER = r"""@article{Preuer2018,
  author = {Preuer, K. and Renz, P. and Unterthiner, T. and Hochreiter, S. and Klambauer, G.},
  title = {{Fr{\'e}chet} {ChemNet} distance: a metric for generative models for molecules in drug discovery},
  journal = {Journal of Chemical Information and Modeling}, volume = {58}, number = {9}, pages = {1736--1741},
  year = {2018}, doi = {10.1021/acs.jcim.8b00234}
}"""
BICKERTON = """@article{Bickerton2012,
  author = {Bickerton, G. R. and Paolini, G. V. and Besnard, J. and Muresan, S. and Hopkins, A. L.},
  title = {Quantifying the chemical beauty of drugs}, journal = {Nature Chemistry}, volume = {4},
  pages = {90--98}, year = {2012}, doi = {10.1038/nchem.1243}
}"""
ERTL = """@article{Ertl2009,
  author = {Ertl, P. and Schuffenhauer, A.},
  title = {Estimation of synthetic accessibility score of drug-like molecules based on molecular complexity and
           fragment contributions},
  journal = {Journal of Cheminformatics}, volume = {1}, pages = {8}, year = {2009},
  doi = {10.1186/1758-2946-1-8}
}"""
WILDMAN = """@article{Wildman1999,
  author = {Wildman, S. A. and Crippen, G. M.},
  title = {Prediction of physicochemical parameters by atomic contributions},
  journal = {Journal of Chemical Information and Computer Sciences}, volume = {39}, number = {5},
  pages = {868--873}, year = {1999}, doi = {10.1021/ci990307l}
}"""
ERIKSSON = """@inproceedings{Eriksson2019,
  author = {Eriksson, D. and Pearce, M. and Gardner, J. R. and Turner, R. and Poloczek, M.},
  title = {Scalable global optimization via local {Bayesian} optimization},
  booktitle = {Advances in Neural Information Processing Systems}, volume = {32}, year = {2019}
}"""
NIGAM = """@article{Nigam2021,
  author = {Nigam, A. and Pollice, R. and Krenn, M. and dos Passos Gomes, G. and Aspuru-Guzik, A.},
  title = {Beyond generative models: superfast traversal, optimization, novelty, exploration and discovery
           ({STONED}) algorithm for molecules using {SELFIES}},
  journal = {Chemical Science}, volume = {12}, pages = {7079--7090}, year = {2021}, doi = {10.1039/D1SC00231G}
}"""


def about(run: Run) -> About:
    """Title by the data sets, citations by what the run did."""
    settings = [variant.settings for variant in run.variants.values()]
    names = dict.fromkeys(one.dataset for one in settings)
    optimised = run.settings.analyse.optimise_calls is not None
    properties = {name for one in settings for name in one.prepare.properties}
    used = {
        GOMEZ_BOMBARELLI: True,
        BOWMAN: any(one.model.token_dropout for one in settings),
        KRENN: any(one.prepare.notation == "selfies" for one in settings),
        POLYKOVSKIY: True,
        PREUER: any("FCD" in found for found in run.metrics.get("generation", {}).values()),
        WILDMAN: True,  # of the metrics of MOSES
        BICKERTON: True,
        ERTL: True,
        ERIKSSON: optimised,
        NIGAM: optimised,
    }
    done = ["reconstruction", "new molecules"]
    done += [f"prediction of {', '.join(sorted(properties))}"] if properties else []
    done += ["optimisation of 5 QED − SAS"] if optimised else []
    source = run.input.name if run.input else " and ".join(names)
    return About(
        f"Molecules: {source}",
        f"SMILES to latents and back: {', '.join(done)}.",
        tuple(entry for entry, wanted in used.items() if wanted),
    )
