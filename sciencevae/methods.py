"""The papers that the toolkit's own parts are after, as BibTeX, and which of them a model uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from sciencevae.training.schedules import Schedule
    from sciencevae.vae.model import VAE
    from sciencevae.vae.objectives import Objective
    from sciencevae.vae.priors import Prior

__all__ = ["PAPERS", "PARTS", "citation_key", "refitted", "used"]

_ENTRIES = (
    r"""@inproceedings{KingmaWelling2014,
  author = {Kingma, D. P. and Welling, M.}, title = {Auto-encoding variational {Bayes}},
  booktitle = {International Conference on Learning Representations}, year = {2014},
  eprint = {1312.6114}, archivePrefix = {arXiv}
}""",
    r"""@inproceedings{Rezende2014,
  author = {Rezende, D. J. and Mohamed, S. and Wierstra, D.},
  title = {Stochastic backpropagation and approximate inference in deep generative models},
  booktitle = {International Conference on Machine Learning}, pages = {1278--1286}, year = {2014},
  eprint = {1401.4082}, archivePrefix = {arXiv}
}""",
    r"""@inproceedings{Sohn2015,
  author = {Sohn, K. and Lee, H. and Yan, X.},
  title = {Learning structured output representation using deep conditional generative models},
  booktitle = {Advances in Neural Information Processing Systems}, volume = {28}, year = {2015}
}""",
    r"""@inproceedings{Higgins2017,
  author = {Higgins, I. and Matthey, L. and Pal, A. and Burgess, C. and Glorot, X. and Botvinick, M. and
            Mohamed, S. and Lerchner, A.},
  title = {{$\beta$}-{VAE}: learning basic visual concepts with a constrained variational framework},
  booktitle = {International Conference on Learning Representations}, year = {2017}
}""",
    r"""@misc{Burgess2018,
  author = {Burgess, C. P. and Higgins, I. and Pal, A. and Matthey, L. and Watters, N. and Desjardins, G. and
            Lerchner, A.},
  title = {Understanding disentangling in {$\beta$}-{VAE}}, year = {2018},
  eprint = {1804.03599}, archivePrefix = {arXiv}
}""",
    r"""@inproceedings{Kingma2016,
  author = {Kingma, D. P. and Salimans, T. and Jozefowicz, R. and Chen, X. and Sutskever, I. and Welling, M.},
  title = {Improved variational inference with inverse autoregressive flow},
  booktitle = {Advances in Neural Information Processing Systems}, volume = {29}, year = {2016},
  eprint = {1606.04934}, archivePrefix = {arXiv}
}""",
    r"""@inproceedings{Chen2018,
  author = {Chen, R. T. Q. and Li, X. and Grosse, R. and Duvenaud, D.},
  title = {Isolating sources of disentanglement in variational autoencoders},
  booktitle = {Advances in Neural Information Processing Systems}, volume = {31}, year = {2018}
}""",
    r"""@inproceedings{KimMnih2018,
  author = {Kim, H. and Mnih, A.}, title = {Disentangling by factorising},
  booktitle = {International Conference on Machine Learning}, year = {2018}
}""",
    r"""@inproceedings{EastwoodWilliams2018,
  author = {Eastwood, C. and Williams, C. K. I.},
  title = {A framework for the quantitative evaluation of disentangled representations},
  booktitle = {International Conference on Learning Representations}, year = {2018}
}""",
    r"""@inproceedings{Kumar2018,
  author = {Kumar, A. and Sattigeri, P. and Balakrishnan, A.},
  title = {Variational inference of disentangled latent concepts from unlabeled observations},
  booktitle = {International Conference on Learning Representations}, year = {2018},
  eprint = {1711.00848}, archivePrefix = {arXiv}
}""",
    r"""@inproceedings{Burda2016,
  author = {Burda, Y. and Grosse, R. and Salakhutdinov, R.}, title = {Importance weighted autoencoders},
  booktitle = {International Conference on Learning Representations}, year = {2016},
  eprint = {1509.00519}, archivePrefix = {arXiv}
}""",
    r"""@inproceedings{Tucker2019,
  author = {Tucker, G. and Lawson, D. and Gu, S. and Maddison, C. J.},
  title = {Doubly reparameterized gradient estimators for {Monte Carlo} objectives},
  booktitle = {International Conference on Learning Representations}, year = {2019},
  eprint = {1810.04152}, archivePrefix = {arXiv}
}""",
    r"""@inproceedings{Kingma2014,
  author = {Kingma, D. P. and Mohamed, S. and Rezende, D. J. and Welling, M.},
  title = {Semi-supervised learning with deep generative models},
  booktitle = {Advances in Neural Information Processing Systems}, volume = {27}, year = {2014},
  eprint = {1406.5298}, archivePrefix = {arXiv}
}""",
    r"""@inproceedings{Jiang2017,
  author = {Jiang, Z. and Zheng, Y. and Tan, H. and Tang, B. and Zhou, H.},
  title = {Variational deep embedding: an unsupervised and generative approach to clustering},
  booktitle = {International Joint Conference on Artificial Intelligence}, pages = {1965--1972}, year = {2017},
  doi = {10.24963/ijcai.2017/273}
}""",
    r"""@inproceedings{TomczakWelling2018,
  author = {Tomczak, J. M. and Welling, M.}, title = {{VAE} with a {VampPrior}},
  booktitle = {International Conference on Artificial Intelligence and Statistics}, year = {2018}
}""",
    r"""@inproceedings{HoffmanJohnson2016,
  author = {Hoffman, M. D. and Johnson, M. J.},
  title = {{ELBO} surgery: yet another way to carve up the variational evidence lower bound},
  booktitle = {NIPS Workshop on Advances in Approximate Bayesian Inference}, year = {2016}
}""",
    r"""@inproceedings{Chen2017,
  author = {Chen, X. and Kingma, D. P. and Salimans, T. and Duan, Y. and Dhariwal, P. and Schulman, J. and
            Sutskever, I. and Abbeel, P.},
  title = {Variational lossy autoencoder},
  booktitle = {International Conference on Learning Representations}, year = {2017},
  eprint = {1611.02731}, archivePrefix = {arXiv}
}""",
    r"""@inproceedings{RezendeMohamed2015,
  author = {Rezende, D. J. and Mohamed, S.}, title = {Variational inference with normalizing flows},
  booktitle = {International Conference on Machine Learning}, pages = {1530--1538}, year = {2015},
  eprint = {1505.05770}, archivePrefix = {arXiv}
}""",
    r"""@inproceedings{Papamakarios2017,
  author = {Papamakarios, G. and Pavlakou, T. and Murray, I.},
  title = {Masked autoregressive flow for density estimation},
  booktitle = {Advances in Neural Information Processing Systems}, volume = {30}, year = {2017},
  eprint = {1705.07057}, archivePrefix = {arXiv}
}""",
    r"""@inproceedings{Dinh2017,
  author = {Dinh, L. and Sohl-Dickstein, J. and Bengio, S.}, title = {Density estimation using {Real NVP}},
  booktitle = {International Conference on Learning Representations}, year = {2017},
  eprint = {1605.08803}, archivePrefix = {arXiv}
}""",
    r"""@inproceedings{Durkan2019,
  author = {Durkan, C. and Bekasov, A. and Murray, I. and Papamakarios, G.}, title = {Neural spline flows},
  booktitle = {Advances in Neural Information Processing Systems}, volume = {32}, year = {2019},
  eprint = {1906.04032}, archivePrefix = {arXiv}
}""",
    r"""@inproceedings{vandenOord2017,
  author = {{van den Oord}, A. and Vinyals, O. and Kavukcuoglu, K.},
  title = {Neural discrete representation learning},
  booktitle = {Advances in Neural Information Processing Systems}, volume = {30}, year = {2017}
}""",
    r"""@inproceedings{vandenOord2016,
  author = {{van den Oord}, A. and Kalchbrenner, N. and Kavukcuoglu, K.},
  title = {Pixel recurrent neural networks},
  booktitle = {International Conference on Machine Learning}, year = {2016},
  eprint = {1601.06759}, archivePrefix = {arXiv}
}""",
    r"""@inproceedings{Bowman2016,
  author = {Bowman, S. R. and Vilnis, L. and Vinyals, O. and Dai, A. M. and Jozefowicz, R. and Bengio, S.},
  title = {Generating sentences from a continuous space},
  booktitle = {Conference on Computational Natural Language Learning}, pages = {10--21}, year = {2016},
  doi = {10.18653/v1/K16-1002}
}""",
    r"""@inproceedings{Fu2019,
  author = {Fu, H. and Li, C. and Liu, X. and Gao, J. and Celikyilmaz, A. and Carin, L.},
  title = {Cyclical annealing schedule: a simple approach to mitigating {KL} vanishing},
  booktitle = {Conference of the North American Chapter of the Association for Computational Linguistics},
  pages = {240--250}, year = {2019}, doi = {10.18653/v1/N19-1021}
}""",
    r"""@inproceedings{Salimans2017,
  author = {Salimans, T. and Karpathy, A. and Chen, X. and Kingma, D. P.},
  title = {{PixelCNN++}: improving the {PixelCNN} with discretized logistic mixture likelihood and other
           modifications},
  booktitle = {International Conference on Learning Representations}, year = {2017},
  eprint = {1701.05517}, archivePrefix = {arXiv}
}""",
    r"""@article{Gretton2012,
  author = {Gretton, A. and Borgwardt, K. M. and Rasch, M. J. and Sch{\"o}lkopf, B. and Smola, A.},
  title = {A kernel two-sample test}, journal = {Journal of Machine Learning Research}, volume = {13},
  pages = {723--773}, year = {2012}
}""",
    r"""@inproceedings{Alemi2017,
  author = {Alemi, A. A. and Fischer, I. and Dillon, J. V. and Murphy, K.},
  title = {Deep variational information bottleneck},
  booktitle = {International Conference on Learning Representations}, year = {2017},
  eprint = {1612.00410}, archivePrefix = {arXiv}
}""",
    r"""@inproceedings{Dalca2018,
  author = {Dalca, A. V. and Balakrishnan, G. and Guttag, J. and Sabuncu, M. R.},
  title = {Unsupervised learning for fast probabilistic diffeomorphic registration},
  booktitle = {Medical Image Computing and Computer Assisted Intervention}, year = {2018},
  eprint = {1805.04605}, archivePrefix = {arXiv}
}""",
    r"""@inproceedings{Arsigny2006,
  author = {Arsigny, V. and Commowick, O. and Pennec, X. and Ayache, N.},
  title = {A log-{Euclidean} framework for statistics on diffeomorphisms},
  booktitle = {Medical Image Computing and Computer Assisted Intervention}, pages = {924--931}, year = {2006},
  doi = {10.1007/11866565_113}
}""",
    r"""@techreport{AnCho2015,
  author = {An, Jinwon and Cho, Sungzoon},
  title = {Variational autoencoder based anomaly detection using reconstruction probability},
  institution = {SNU Data Mining Center}, number = {Special Lecture on IE 2}, year = {2015}
}""",
)


def citation_key(bibtex: str) -> str:
    """The key of a BibTeX entry.

    >>> citation_key("@misc{Toy2020, year = {2020}}")
    'Toy2020'
    """
    return bibtex.split("{", 1)[1].split(",", 1)[0].strip()


#: key -> BibTeX entry
PAPERS = {citation_key(entry): entry for entry in _ENTRIES}
#: the parts that are after a paper of their own, by module and class; of others the choices count, see ``used``
PARTS = {
    "priors.ConditionalNormal": ("Sohn2015",),
    "priors.GaussianMixture": ("Jiang2017",),
    "priors.VampPrior": ("TomczakWelling2018",),
    "priors.Flow": ("Chen2017",),
    "priors.Autoregressive": ("vandenOord2016",),
    "encoders.Flow": ("RezendeMohamed2015",),
    "encoders.Quantiser": ("vandenOord2017",),
    "decoders.MixtureOfLogistics": ("Salimans2017",),
    "decoders.Sequence": ("Bowman2016",),
    "decoders.Warp": ("Dalca2018",),
    "objectives.BetaTCVAE": ("Chen2018",),
    "objectives.FactorVAE": ("KimMnih2018",),
    "objectives.IWAE": ("Burda2016",),
    "objectives.Property": ("Kingma2014",),
    "objectives.Smoothness": ("Dalca2018",),
    "objectives.Discrepancy": ("Gretton2012",),
    "flows._Autoregressive": ("Papamakarios2017",),
    "flows._Coupling": ("Dinh2017",),
}


def used(model: VAE, objective: Objective) -> list[str]:
    """Keys of the papers that a model and how it is trained are after, each once."""
    found = ["vandenOord2017"] if model.coded else ["KingmaWelling2014", "Rezende2014"]
    found += _parts(model)
    if any(getattr(part, "conditional", False) for part in (model.prior, model.decoder)):
        found.append("Sohn2015")
    return list(dict.fromkeys([*found, *_parts(objective), *_choices(objective)]))


def refitted(prior: Prior) -> list[str]:
    """Keys of the papers that a prior which was fitted after training is after."""
    joint = (*PARTS["priors.GaussianMixture"], *PARTS["priors.Flow"])  # which are of priors learned along
    return list(dict.fromkeys(["HoffmanJohnson2016", *(key for key in _parts(prior) if key not in joint)]))


def _parts(module: nn.Module) -> Iterator[str]:
    for part in module.modules():
        kind, path = type(part), type(part).__module__.split(".")
        if path[:2] != ["sciencevae", "vae"]:
            continue
        yield from PARTS.get(f"{path[2]}.{kind.__name__}", ())
        if getattr(part, "squarings", 0):
            yield "Arsigny2006"
        if getattr(part, "seen", ()):
            yield "Alemi2017"
        if path[2] == "flows" and getattr(part, "bins", None):
            yield "Durkan2019"
        if (path[2], kind.__name__) == ("encoders", "Flow") and "flows._Autoregressive" in _names(part):
            yield "Kingma2016"


def _names(module: nn.Module) -> set[str]:
    return {f"{type(p).__module__.split('.')[-1]}.{type(p).__name__}" for p in module.modules()}


def _choices(objective: Any) -> Iterator[str]:
    """What was chosen of an objective that has several papers."""
    schedules = getattr(objective, "schedules", {})
    if getattr(objective, "free_bits", 0.0):
        yield "Kingma2016"
    if "capacity" in schedules:
        yield "Burgess2018"
    elif type(objective).__name__ == "ELBO":
        yield from _beta(schedules["beta"])
    if getattr(objective, "doubly_reparameterised", False):
        yield "Tucker2019"


def _beta(schedule: Schedule) -> Iterator[str]:
    """β-VAE where β ends at another value than 1; warm-up where it changes."""
    if schedule.final != 1.0:
        yield "Higgins2017"
    if type(schedule).__name__ == "Cyclic":
        yield "Fu2019"
    elif schedule(0) != schedule.final:
        yield "Bowman2016"
