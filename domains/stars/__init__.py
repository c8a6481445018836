"""Stars: clusters found in a catalogue of positions, parallaxes and proper motions."""

from sciencevae.registry import Domain, lazy

from .settings import Stars

__all__ = ["DOMAIN"]

own = lazy(__name__)

DOMAIN = Domain(
    name="stars",
    title="Star clusters",
    summary="open clusters found in a catalogue without being told where they are, with membership probabilities",
    settings=Stars,
    prepare=own("dataset.prepare"),
    build=own("model.build"),
    objective=own("model.objective"),
    read=own("dataset.read"),
    analyses={"clusters": own("analysis.clusters")},
    figures={
        name: own(f"figures.{name}")
        for name in ("sky", "convergent_point", "proper_motion", "parallax", "colour_magnitude", "latent_map")
    },
    citations=(
        """@inproceedings{Campello2013,
  author = {Campello, R. J. G. B. and Moulavi, D. and Sander, J.},
  title = {Density-based clustering based on hierarchical density estimates},
  booktitle = {Advances in Knowledge Discovery and Data Mining}, pages = {160--172}, year = {2013},
  doi = {10.1007/978-3-642-37456-2_14}
}""",
        """@article{Lindegren2021,
  author = {Lindegren, L. and others},
  title = {{Gaia} Early Data Release 3: the astrometric solution},
  journal = {Astronomy and Astrophysics}, volume = {649}, pages = {A2}, year = {2021},
  doi = {10.1051/0004-6361/202039709}
}""",
        """@article{BovyHoggRoweis2011,
  author = {Bovy, J. and Hogg, D. W. and Roweis, S. T.},
  title = {Extreme deconvolution: inferring complete distribution functions from noisy, heterogeneous and
           incomplete observations},
  journal = {Annals of Applied Statistics}, volume = {5}, pages = {1657--1677}, year = {2011},
  doi = {10.1214/10-AOAS439}
}""",
        """@article{Perryman1998,
  author = {Perryman, M. A. C. and others},
  title = {The {Hyades}: distance, structure, dynamics, and age},
  journal = {Astronomy and Astrophysics}, volume = {331}, pages = {81--120}, year = {1998}
}""",
        """@article{vanLeeuwen2009,
  author = {{van Leeuwen}, F.},
  title = {Parallaxes and proper motions for 20 open clusters as based on the new {Hipparcos} catalogue},
  journal = {Astronomy and Astrophysics}, volume = {497}, pages = {209--242}, year = {2009},
  doi = {10.1051/0004-6361/200811382}
}""",
    ),
)
