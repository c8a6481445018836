"""What a run is called and cites: the data sets and methods that it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sciencevae.registry import About

if TYPE_CHECKING:
    from sciencevae.runs import Run

__all__ = ["about"]

KINGMA_WELLING = """@inproceedings{KingmaWelling2014,
  author = {Kingma, D. P. and Welling, M.}, title = {Auto-encoding variational {Bayes}},
  booktitle = {International Conference on Learning Representations}, year = {2014},
  eprint = {1312.6114}, archivePrefix = {arXiv}
}"""
SOHN = """@inproceedings{Sohn2015,
  author = {Sohn, K. and Lee, H. and Yan, X.},
  title = {Learning structured output representation using deep conditional generative models},
  booktitle = {Advances in Neural Information Processing Systems}, volume = {28}, year = {2015}
}"""
AN_CHO = """@techreport{AnCho2015,
  author = {An, J. and Cho, S.},
  title = {Variational autoencoder based anomaly detection using reconstruction probability},
  institution = {SNU Data Mining Center}, year = {2015}
}"""
BURGESS = """@misc{Burgess2018,
  author = {Burgess, C. P. and Higgins, I. and Pal, A. and Matthey, L. and Watters, N. and Desjardins, G. and
            Lerchner, A.},
  title = {Understanding disentangling in {$\\beta$}-{VAE}}, year = {2018},
  eprint = {1804.03599}, archivePrefix = {arXiv}
}"""
CHEN = """@inproceedings{Chen2018,
  author = {Chen, R. T. Q. and Li, X. and Grosse, R. and Duvenaud, D.},
  title = {Isolating sources of disentanglement in variational autoencoders},
  booktitle = {Advances in Neural Information Processing Systems}, volume = {31}, year = {2018}
}"""
KIM_MNIH = """@inproceedings{KimMnih2018,
  author = {Kim, H. and Mnih, A.}, title = {Disentangling by factorising},
  booktitle = {International Conference on Machine Learning}, year = {2018}
}"""
BURDA = """@inproceedings{Burda2016,
  author = {Burda, Y. and Grosse, R. and Salakhutdinov, R.}, title = {Importance weighted autoencoders},
  booktitle = {International Conference on Learning Representations}, year = {2016},
  eprint = {1509.00519}, archivePrefix = {arXiv}
}"""
TOMCZAK_WELLING = """@inproceedings{TomczakWelling2018,
  author = {Tomczak, J. M. and Welling, M.}, title = {{VAE} with a {VampPrior}},
  booktitle = {International Conference on Artificial Intelligence and Statistics}, year = {2018}
}"""
VAN_DEN_OORD = """@inproceedings{vandenOord2017,
  author = {{van den Oord}, A. and Vinyals, O. and Kavukcuoglu, K.},
  title = {Neural discrete representation learning},
  booktitle = {Advances in Neural Information Processing Systems}, volume = {30}, year = {2017}
}"""

_SHOWN = {
    "mnist": ("digits", "MNIST"),
    "fashion_mnist": ("garments", "Fashion-MNIST"),
    "dsprites": ("sprites", "dSprites"),
}


def about(run: Run) -> About:
    """Title by the data sets, summary by the analyses that found something, citations by the models."""
    settings = [variant.settings for variant in run.variants.values()]
    shown = dict.fromkeys(_SHOWN.get(one.dataset, ("", one.dataset)) for one in settings)
    things = "" if run.input else " and ".join(thing for thing, _ in shown if thing)
    source = run.input.name if run.input else " and ".join(name for _, name in shown)
    found = [name for name in run.domain.analyses if run.metrics.get(name)]
    used = {
        KINGMA_WELLING: True,
        SOHN: any(one.prepare.condition != "none" for one in settings),
        AN_CHO: any(one.prepare.anomaly is not None for one in settings),
        BURGESS: any(one.objective.capacity is not None for one in settings),
        CHEN: any(one.objective.kind == "tc" for one in settings),
        KIM_MNIH: any(one.objective.kind == "factor" for one in settings),
        BURDA: any(one.objective.kind == "iwae" for one in settings),
        TOMCZAK_WELLING: any(one.model.prior == "vamp" for one in settings),
        VAN_DEN_OORD: any(one.model.kind == "vq" for one in settings),
    }
    cited = [entry for entry, is_used in used.items() if is_used]
    title = f"Images of {things}" if things else "Images"
    return About(title, f"{source}: {', '.join(found) or 'models trained'}", tuple(cited))
