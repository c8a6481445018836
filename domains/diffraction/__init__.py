"""Diffraction patterns: light behind apertures, and X-rays from powders."""

from sciencevae.registry import Domain, lazy

from .settings import Diffraction

__all__ = ["DOMAIN"]

own = lazy(__name__)

DOMAIN = Domain(
    name="diffraction",
    title="Diffraction patterns",
    summary="light behind apertures and X-rays from powders; which parameters a pattern determines, and which not",
    settings=Diffraction,
    prepare=own("dataset.prepare"),
    read=own("dataset.read"),
    write=own("dataset.write"),
    formats=(".npz", ".npy"),
    build=own("model.build"),
    objective=own("model.objective"),
    # each gives nothing in a run of the other kind
    analyses={
        name: own(f"optical_analysis.{name}")
        for name in ("recovery", "identifiability", "denoising", "generation")
    }
    | {
        "phases": own("powder_analysis.phases"),
        "unknown": own("powder_unknown.unknown"),
        "short_exposures": own("powder_exposures.short_exposures"),
        "groups": own("powder_groups.groups"),
        "lattice": own("powder_groups.lattice"),
    },
    figures={
        name: own(f"optical_figures.{name}")
        for name in ("patterns", "recovered", "determined", "denoised", "interpolated")
    }
    | {
        name: own(f"powder_figures.{name}")
        for name in ("scans", "doubts", "phase_map", "confusion", "path", "thinned_patterns")
    },
    about=own("about.about"),
)
