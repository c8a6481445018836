"""The contract that a science domain fulfils, and the registry that finds domains."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sciencevae.errors import InputError, RunError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from sciencevae.config import RunSettings
    from sciencevae.data.augment import Augmentation
    from sciencevae.data.batches import Batches
    from sciencevae.report.figures import Drawn
    from sciencevae.runs import Run
    from sciencevae.training.history import History
    from sciencevae.vae.model import VAE
    from sciencevae.vae.objectives import Objective

__all__ = ["About", "Domain", "Findings", "dataset", "domain", "domains", "lazy", "weights"]

GROUP = "sciencevae.domains"


@dataclass(frozen=True)
class Findings:
    """What an analysis found: numbers for ``metrics.json``, tables for ``tables/``, sentences for the report.

    A metric is a number, a string, a list, or a mapping of these; a table's name becomes its file's name.
    titles: of metrics and columns on the page, in words with their unit: ``{"minus_elbo": "−ELBO (nats)"}``
    """

    metrics: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    titles: Mapping[str, str] = field(default_factory=dict)


class About(NamedTuple):
    """What a page is headed by, and the BibTeX entries of its methods."""

    title: str
    summary: str
    citations: tuple[str, ...]


@dataclass(frozen=True)
class Domain:
    """What is peculiar to one science: its data, its networks, and what to look at.

    settings:  the RunSettings subclass of this domain
    prepare:   (settings, files {name: path}, input path or None) -> Dataset in the shared schema, lazily.
               ``split`` and scaling are added by the stage unless the domain sets them. Rows are shuffled once;
               series that must stay in order say ``attrs["ordered"] = True``. How many rows were left out, and
               why, the page shows from ``attrs["refused"]`` and ``["refused_reasons"]`` (JSON, reason -> count).
    build:     (settings, data) -> VAE
    objective: (settings, data) -> Objective; default: the ELBO
    beside:    (settings) -> names of data sets that the analyses read beside the run's own: the stage fetches them,
               too, where they can be had, so that later stages need no network
    augment:   (settings) -> how a batch is seen anew at each pass, (batch, generator) -> batch, or None
    input_files: (input) -> the files that a user's input names: where one of them changes, it is prepared again
    keeps_data: whether a user's input is prepared beside the data set of the settings, not in its place
    refit:     (settings, model, train, valid) -> what is done to a trained model in place, as the fit of another
               prior to its latents: its History, or None where nothing is done
    read:      (path, settings, template) -> iterator of Datasets of bounded size from a user's own file, in its
               order, with coordinates ``row``, ``id``, ``status``; bad rows stay, as NaN with a reason. ``note``,
               where there is one, says what is to be known of a row that is used.
               ``template``: the data the model was trained on, without rows: its axes, and in its attributes
               what ``prepare`` learned
    analyses:  name -> (run) -> Findings, empty ones where there is nothing of the kind
    figures:   name -> (run) -> (figure, Drawing or Mapped, caption), from tables, latents and models on disk; None
               where a run has nothing of the kind
    write:     (data, path) decoded samples in the field's own ``formats``; ``data`` has the template's axes and
               attributes
    edit:      (trained, source, out, attribute, amount, eyes) a user's datum with an attribute changed by an
               amount, written to ``out``; ``eyes`` says where they are, where a face is to be found
    formats:   the endings that ``write`` takes, in place of the general ones where they are the same
    spreads:   whether ``write`` keeps the NAME_std of ``data``, how far its NAME may be off
    line:      the ending of a text file that ``read`` takes, of lines "DATUM NAME", where there is one: then a
               command takes data as they are
    citations: BibTeX entries of the methods
    about:     (run) -> About of what ran, where title, summary and citations are not those of every run
    """

    name: str
    title: str
    summary: str
    settings: type[RunSettings]
    prepare: Callable[[Any, Mapping[str, Path], Path | None], xr.Dataset]
    build: Callable[[Any, xr.Dataset], VAE]
    objective: Callable[[Any, xr.Dataset], Objective] | None = None
    beside: Callable[[Any], tuple[str, ...]] | None = None
    input_files: Callable[[Path], Iterable[Path]] | None = None
    keeps_data: bool = False
    augment: Callable[[Any], Augmentation | None] | None = None
    refit: Callable[[Any, VAE, Batches, Batches], History | None] | None = None
    read: Callable[[Path, Any, xr.Dataset], Iterator[xr.Dataset]] | None = None
    analyses: Mapping[str, Callable[[Run], Findings]] = field(default_factory=dict)
    figures: Mapping[str, Callable[[Run], Drawn | None]] = field(default_factory=dict)
    write: Callable[[xr.Dataset, Path], None] | None = None
    edit: Callable[..., None] | None = None
    formats: tuple[str, ...] = ()
    spreads: bool = False
    line: str = ""
    citations: tuple[str, ...] = ()
    about: Callable[[Run], About] | None = None
    #: the folder with config.yaml, README.md and rules.smk; found from the code when not given
    folder: Path = Path()

    def of(self, run: Run) -> About:
        """Title, summary and citations of a run."""
        return self.about(run) if self.about else About(self.title, self.summary, self.citations)

    def seen(self, batches: Batches, settings: Any) -> Batches:
        """The batches as training sees them: through ``augment``, where the domain has one for these settings."""
        from sciencevae.data.augment import Augmented

        augment = self.augment(settings) if self.augment else None
        return Augmented(batches, augment) if augment else batches

    def code(self, stage: str) -> str:
        """A name for the domain's own code that a stage runs: other code, another name."""
        from sciencevae.sources import code_digest

        run: dict[str, Iterable[Callable[..., Any] | None]] = {
            "prepare": [self.prepare],
            "train": [self.build, self.objective, self.augment],
            "refit": [self.refit],
            "analyse": self.analyses.values(),
            "report": [*self.figures.values(), self.about],
        }
        return code_digest(run[stage])

    def load_networks(self) -> None:
        """Import the domain's networks, so that a saved model's classes are known."""
        package = sys.modules[self.settings.__module__].__package__
        if package and find_spec(f"{package}.networks") is not None:
            importlib.import_module(f"{package}.networks")

    def __post_init__(self) -> None:
        if self.folder == Path():
            object.__setattr__(self, "folder", Path(inspect.getfile(self.settings)).resolve().parent)


def lazy(package: str) -> Callable[[str], Callable[..., Any]]:
    """Functions of a domain's modules, imported when they are called: to name a domain costs nothing.

    >>> own = lazy("sciencevae.builtin.xy")
    >>> prepare = own("dataset.prepare")
    """

    def named(name: str) -> Callable[..., Any]:
        module, function = name.rsplit(".", 1)

        def call(*arguments: Any) -> Any:
            return getattr(importlib.import_module(call.__module__), function)(*arguments)

        call.__module__ = f"{package}.{module}"
        return call

    return named


def domains() -> list[str]:
    """The names of all domains: those that come with sciencevae, of installed packages, and of
    ``$SCIENCEVAE_DOMAINS``."""
    return sorted({*_folders(), *_entry_points()})


def domain(name: str) -> Domain:
    """The domain called ``name``; InputError with the nearest name when there is none."""
    points = _entry_points()
    if name in points:
        return _checked(name, points[name].load, points[name].value)
    if name in _folders():
        module = f"sciencevae.builtin.{name}"
        return _checked(name, lambda: importlib.import_module(module).DOMAIN, module)
    raise InputError(f"unknown domain {name!r}{did_you_mean(name, domains())}")


def dataset(name: str) -> xr.Dataset:
    """A data set, fetched and prepared with its domain's default settings, as a lazy xarray Dataset."""
    from sciencevae.stages import prepared_dataset

    for candidate in domains():
        owner = domain(candidate)
        if name in _dataset_names(owner):
            return prepared_dataset(owner, name)
    from sciencevae.data.manifest import list_manifests

    if name in list_manifests():
        raise InputError(f"no domain prepares the data set {name!r}; its files: sciencevae fetch {name}")
    raise InputError(f"unknown data set {name!r}{did_you_mean(name, list_manifests())}")


def weights() -> dict[str, Path]:
    """The trained models that come with domains, by DOMAIN-NAME: NAME.safetensors in a domain's folder ``weights``.

    >>> all(path.suffix == ".safetensors" for path in weights().values())
    True
    """
    import sciencevae.builtin

    places = [Path(place) for place in sciencevae.builtin.__path__]
    found = [path for place in places for path in sorted(place.glob("*/weights/*.safetensors"))]
    return {f"{path.parent.parent.name}-{path.stem}": path for path in found}


def _dataset_names(owner: Domain) -> set[str]:
    """The data sets that the configurations of a domain name."""
    from sciencevae.config import read_yaml

    plain = [read_yaml(path) for path in sorted(owner.folder.glob("*.yaml"))]
    return {found["dataset"] for found in plain if isinstance(found, dict) and "dataset" in found}


def _folders() -> list[str]:
    """Domains that are folders: of this package, of the checkout, and of ``$SCIENCEVAE_DOMAINS``."""
    import sciencevae.builtin

    places = [Path(place) for place in sciencevae.builtin.__path__]
    return [
        found.parent.name
        for place in places
        for found in sorted(place.glob("*/__init__.py"))
        if found.parent.name.isidentifier()
    ]


def _entry_points() -> dict[str, EntryPoint]:
    """Domains of other installed packages; our own are found as folders, installed or not."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    return {name: point for name, point in found.items() if not point.value.startswith("sciencevae.builtin.")}


def _checked(name: str, get: Callable[[], Any], source: str) -> Domain:
    try:
        found = get()
    except (ImportError, AttributeError, SyntaxError) as error:
        if "--traceback" in sys.argv:
            raise
        raise RunError(
            f"domain {name!r} ({source}) cannot be loaded: {error}; see with --traceback"
        ) from error
    if not isinstance(found, Domain):
        raise InputError(
            f"domain {name!r} ({source}) must be a sciencevae.registry.Domain, found {found!r:.80}"
        )
    return found
