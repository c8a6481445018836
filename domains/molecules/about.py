"""What heads the page of a run, and what it cites."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sciencevae.data.manifest import load_manifest
from sciencevae.registry import About

if TYPE_CHECKING:
    from sciencevae.runs import Run

__all__ = ["about"]

KRENN = r"""@article{Krenn2020,
  author = {Krenn, M. and H{\"a}se, F. and Nigam, A. and Friederich, P. and Aspuru-Guzik, A.},
  title = {Self-referencing embedded strings ({SELFIES}): a 100\% robust molecular string representation},
  journal = {Machine Learning: Science and Technology}, volume = {1}, number = {4}, pages = {045024},
  year = {2020}, doi = {10.1088/2632-2153/aba947}
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
    properties = {name for one in settings for name in (*one.prepare.properties, *one.prepare.measured)}
    papers = {name: load_manifest(name).citation.bibtex for name in ("zinc250k", "moses", "chemnet")}
    used = {
        papers["zinc250k"]: True,
        KRENN: any(one.prepare.notation == "selfies" for one in settings),
        papers["moses"]: True,
        papers["chemnet"]: any("FCD" in found for found in run.metrics.get("generation", {}).values()),
        WILDMAN: True,  # of the metrics of MOSES
        BICKERTON: True,
        ERTL: True,
        ERIKSSON: optimised,
        NIGAM: optimised,
    }
    predicted = set(run.table("transfer")["data"]) if run.metrics.get("transfer") else set()
    used |= {load_manifest(name).citation.bibtex: True for name in sorted(predicted)}
    done = ["reconstruction", "new molecules"]
    done += [f"prediction of {', '.join(sorted(properties))}"] if properties else []
    done += [f"transfer to {', '.join(sorted(predicted))}"] if predicted else []
    done += ["optimisation of 5 QED − SAS"] if optimised else []
    source = run.input.name if run.input else " and ".join(names)
    return About(
        f"Molecules: {source}",
        f"SMILES to latents and back: {', '.join(done)}.",
        tuple(entry for entry, wanted in used.items() if wanted),
    )
