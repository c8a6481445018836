"""The one run configuration: typed sections, variants, overrides from the shell, and its JSON schema."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sciencevae.errors import InputError, did_you_mean
from sciencevae.training.settings import TrainingSettings

if TYPE_CHECKING:
    from sciencevae.registry import Domain

__all__ = [
    "PrepareSettings",
    "RefitSettings",
    "RunSettings",
    "Section",
    "describe",
    "digest",
    "load",
    "overridden",
    "read_yaml",
    "validate",
]

_VARIANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+.-]*")
#: of a YAML file: bytes, values with the aliases written out, and how deep they may lie
_LARGEST_FILE, _MOST_VALUES, _DEEPEST = 4 << 20, 100_000, 50


class Section(BaseModel):
    """A group of settings; an unknown key is an error, never silently dropped."""

    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)


class PrepareSettings(Section):
    """Raw files to the prepared data set; a domain subclasses this."""

    split_seed: int = Field(default=0, ge=0, description="seed of the split by groups and of the row order")
    fractions: dict[str, float] = Field(
        default_factory=lambda: {"train": 0.8, "valid": 0.1, "test": 0.1},
        description="share of the groups in each part",
    )


class RefitSettings(Section):
    """A prior fitted to the latents after training, all else as it is; a domain adds ``prior``, its kinds."""

    components: int = Field(
        default=50, ge=1, description="of the mixture; fewer where there are too few latents for so many"
    )
    covariance: Literal["diagonal", "full"] = "diagonal"
    training: TrainingSettings = Field(
        default=TrainingSettings(epochs=20, batch_size=256, learning_rate=1e-3), description="of a flow"
    )


class RunSettings(Section):
    """What one run does. A domain subclasses this and types the sections it extends.

    ``variants`` names further trainings beside the main one, each the main settings with some replaced:
    ``{"energy": {"objective": {"energy_weight": 1.0}}}``.
    """

    dataset: str = Field(
        default="", description="name of the data set's manifest; none: `prepare` makes the data"
    )
    source: Section = Field(default_factory=Section, description="parameters of the generator or the query")
    prepare: PrepareSettings = Field(
        default_factory=PrepareSettings, description="raw files to the prepared data set"
    )
    model: Section = Field(default_factory=Section, description="networks and distributions")
    objective: Section = Field(default_factory=Section, description="the loss and its terms")
    training: TrainingSettings = Field(default_factory=TrainingSettings, description="the optimisation")
    refit: Section = Field(default_factory=Section, description="what is done to a trained model")
    encode: Section = Field(default_factory=Section, description="prepared data to latents")
    analyse: Section = Field(default_factory=Section, description="latents to tables and numbers")
    report: Section = Field(default_factory=Section, description="figures and the page")
    seed: int = Field(default=0, ge=0, lt=2**30, description="seed of the weights and the training")
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict, description="further trainings")

    #: the sections that each stage depends on, beside what the stage before it made
    stages: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "fetch": ("dataset", "source"),
        "prepare": ("dataset", "source", "prepare"),
        "train": ("model", "objective", "training", "seed"),
        "refit": ("refit",),
        "encode": ("encode",),
        "analyse": ("analyse",),
        "report": ("report",),
    }
    #: the sections of the stages that look at all variants at once
    shared: ClassVar[tuple[str, ...]] = (*stages["analyse"], *stages["report"])

    @model_validator(mode="after")
    def _one_seed(self) -> RunSettings:
        if self.training.seed:
            raise ValueError("training.seed: a run has one seed: set seed")
        if isinstance(self.refit, RefitSettings) and self.refit.training.seed:
            raise ValueError("refit.training.seed: a run has one seed: set seed")
        return self

    def dump(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return self.model_dump(mode="json")

    def slice(self, stage: str) -> dict[str, Any]:
        """The part of the settings that ``stage`` depends on."""
        chosen = self.model_dump(mode="json", include=set(self.stages[stage]))
        if "training" in chosen:
            chosen["training"] = {
                k: v for k, v in chosen["training"].items() if k not in TrainingSettings.VOLATILE
            }
        return chosen

    def variant(self, name: str) -> RunSettings:
        """The settings of one variant; ``main`` is these settings themselves."""
        plain = self.model_dump(mode="json", exclude={"variants"})
        if name != "main":
            if name not in self.variants:
                raise InputError(f"no variant {name!r} in this run{did_you_mean(name, self.variant_names())}")
            for section in self.shared:
                if own := self.variants[name].get(section):
                    key = next(iter(own)) if isinstance(own, Mapping) else ""
                    raise InputError(
                        f"variant {name!r}: {f'{section}.{key}'.rstrip('.')}: the sections "
                        f"{' and '.join(self.shared)} are shared by all variants: set it outside 'variants'"
                    )
            plain = _merge(plain, self.variants[name])
        return validate(type(self), plain, f"variant {name!r}" if name != "main" else "settings")

    def variant_names(self) -> list[str]:
        """``main`` first, then the variants in the order written."""
        return ["main", *self.variants]


def load(domain: Domain, config: str | None = None, overrides: Iterable[str] = ()) -> RunSettings:
    """The settings of a run of ``domain``: its configuration file, then ``key=value`` overrides.

    config: a name (``NAME`` means the domain folder's ``NAME.yaml``; default ``config``) or a file.
    Raises InputError naming the key, what was found and what was expected.

    >>> from sciencevae.registry import domain
    >>> load(domain("xy"), overrides=["training.epochs=3"]).training.epochs   # doctest: +SKIP
    3
    """
    path = config_file(domain, config)
    plain = read_yaml(path) or {}
    if not isinstance(plain, dict):
        raise InputError(f"{path}: a configuration is a mapping of sections, found {type(plain).__name__}")
    settings = validate(domain.settings, *overridden(plain, list(overrides), str(path)))
    for name in settings.variants:
        if name == "main" or not _VARIANT.fullmatch(name):
            raise InputError(
                f"{path}: variants.{name}: a variant is named by letters, digits, '_', '-', '+' or '.', "
                "and 'main' is taken"
            )
        settings.variant(name)
    return settings


def config_file(domain: Domain, config: str | None) -> Path:
    """The file that ``--config`` names: a path, or a configuration of the domain's folder."""
    name = config or "config"
    if "/" in name or name.endswith((".yaml", ".yml", ".json")):
        path = Path(name).expanduser()
        if not path.is_file() and "/" not in name and (domain.folder / name).is_file():
            return domain.folder / name
        if not path.is_file():
            raise InputError(f"no configuration file {path}; see 'sciencevae config schema {domain.name}'")
        return path
    path = domain.folder / f"{name}.yaml"
    if not path.is_file():
        known = [found.stem for found in domain.folder.glob("*.yaml")]
        raise InputError(f"domain {domain.name!r} has no configuration {name!r}{did_you_mean(name, known)}")
    return path


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads ``1e-3`` as a number, refuses a key written twice, and aliases that make a bomb."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise yaml.composer.ComposerError(None, None, "nested too deeply", self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None and _written_out(node, {}) > _MOST_VALUES:
            raise yaml.YAMLError(f"with its aliases written out it has more than {_MOST_VALUES:,} values")
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is no word", key.start_mark)
            if key.tag != "tag:yaml.org,2002:merge" and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key.value!r} is written twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _written_out(node: yaml.Node, known: dict[int, float]) -> float:
    """How many values a node has with its aliases written out; infinitely many where it holds itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in parts for part in pair]
        known[id(node)] = 1 + sum(_written_out(part, known) for part in parts)
    return known[id(node)]


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9_]+)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


def read_yaml(path: Path) -> Any:
    """The content of a YAML (or JSON) file, safely; InputError with the line where it is malformed."""
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise InputError(f"{path} has more than {_LARGEST_FILE >> 20} MiB: is it a configuration?")
        return _parse_yaml(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {_one_line(error)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the configuration {path}: {error}") from error


def _parse_yaml(text: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        # a day 99, a number of five thousand digits: what the constructors of its plain types raise
        raise yaml.YAMLError(f"a value that is none of its type: {error}") from error


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return " ".join(f"{where}{problem}".split())


def validate(settings: type[RunSettings], plain: Mapping[str, Any], where: str) -> RunSettings:
    """``plain`` as typed settings; the first thing wrong becomes one line."""
    try:
        return settings.model_validate(plain)
    except ValidationError as error:
        raise InputError(f"{where}: {describe(settings, error)}") from error


def digest(value: Any) -> str:
    """A short name for a JSON value: equal values, equal names."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def overridden(
    plain: Mapping[str, Any], overrides: Sequence[str], where: str
) -> tuple[Mapping[str, Any], str]:
    """``plain`` with the values of ``key=value``, and where they are from, as errors name it."""
    for override in overrides:
        plain = _replaced(plain, *_parse_override(override))
    return plain, f"{where} and --set" if overrides else where


def _parse_override(text: str) -> tuple[list[str], Any]:
    """``a.b=c`` as (["a", "b"], c), the value read as YAML."""
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise InputError(f"--set {text!r}: write it as key=value, for example training.epochs=20")
    try:
        return parts, _parse_yaml(value)
    except yaml.YAMLError as error:
        raise InputError(f"--set {text!r}: the value is not valid YAML: {_one_line(error)}") from error


def _replaced(base: Mapping[str, Any], key: list[str], value: Any) -> dict[str, Any]:
    """``base`` with the value at a key path replaced as a whole."""
    first, *rest = key
    inner = base.get(first)
    below = _replaced(inner if isinstance(inner, Mapping) else {}, rest, value) if rest else value
    return {**base, first: below}


def _merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``override``; mappings merge, everything else is replaced."""
    merged = copy.deepcopy(dict(base))
    for key, value in override.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def describe(settings: type[BaseModel], error: ValidationError) -> str:
    """The first error of a validation: key path, what was found, what was expected."""
    errors = error.errors(include_url=False)
    first = errors[0]
    path = ".".join(str(part) for part in first["loc"] if not isinstance(part, str) or "[" not in part)
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    if first["type"] == "extra_forbidden":
        parent = _model_at(settings, first["loc"][:-1])
        known = parent.model_fields if parent else ()
        return f"unknown key {path!r}{did_you_mean(str(first['loc'][-1]), known)}{more}"
    if first["type"] == "missing":
        return f"key {path!r} is missing{more}"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    expected = message if first["type"] == "value_error" else f"expected {message}"
    found = first["input"]
    shown = "" if isinstance(found, Mapping) else f", found {found!r:.80} ({type(found).__name__})"
    return f"{path}: {expected}{shown}{more}" if path else f"{expected}{more}"


def _model_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The settings class found by following a key path."""
    found: type[BaseModel] | None = model
    for part in loc:
        if found is None:
            return None
        if part not in found.model_fields:
            continue  # the tag of a union, which pydantic puts into the path
        found = _model_of(found.model_fields[str(part)].annotation)
    return found


def _model_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType, dict, list, tuple):
        return next((m for a in get_args(annotation) if (m := _model_of(a))), None)
    return None
