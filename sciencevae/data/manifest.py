"""What a data set is: a YAML file that names its files, hashes, licence, citation, variables and splits."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sciencevae.errors import InputError, did_you_mean
from sciencevae.paths import manifests_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Citation",
    "FileEntry",
    "Generate",
    "Manifest",
    "Package",
    "Splits",
    "Variable",
    "list_manifests",
    "load_manifest",
]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_PACKAGES = (
    re.compile(r"(pypi):([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.!+_-]*?)!(.+)"),
    re.compile(r"(npm):((?:@[a-z0-9-][a-z0-9._-]*/)?[a-z0-9-][a-z0-9._-]*)@([0-9][A-Za-z0-9.+-]*)!(.+)"),
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Package(NamedTuple):
    """A file inside a package: ``pypi:NAME==VERSION!path/inside`` or ``npm:NAME@VERSION!path/inside``.

    Of npm the path is that in the package as published, without the folder ``package/`` around it.
    """

    registry: Literal["pypi", "npm"]
    name: str
    version: str
    inside: str


class Citation(_Strict):
    """How to cite the data: a BibTeX entry, and the DOI where there is one."""

    bibtex: str
    doi: str | None = Field(default=None, pattern=r"^10\.\d{4,9}/\S+$")


class Generate(_Strict):
    """A file that our own code makes: ``command`` is a module with ``VERSION`` and ``generate``.

    query: it asks a service on the network, for what the parameters say; a mirror of everything leaves it out
    """

    command: str = Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")
    parameters: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0
    query: bool = False


class FileEntry(_Strict):
    """One file, and the one kind of place it comes from: ``urls``, ``source`` (a package) or ``generate``.

    bytes, sha256: of the file itself, also where a url ends in ``.gz`` or ``.xz`` and the name does not: what
        comes from there is unpacked
    package_sha256: of the wheel or the tarball that ``source`` names
    """

    name: str
    bytes: int | None = Field(default=None, gt=0)
    sha256: str | None = None
    urls: tuple[str, ...] = ()
    source: str | None = None
    package_sha256: str | None = None
    generate: Generate | None = None

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"a file name is letters, digits and '_.+-', without folders; found {name!r}")
        return name

    @field_validator("sha256", "package_sha256")
    @classmethod
    def _hash(cls, value: str | None) -> str | None:
        if value is not None and not _SHA256.fullmatch(value):
            raise ValueError(f"a sha256 is 64 hexadecimal digits, lower case; found {value!r}")
        return value

    @field_validator("urls")
    @classmethod
    def _https(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            parts = urlsplit(url)
            if not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)):
                raise ValueError(f"a url begins with https://; found {url!r}")
        return urls

    @model_validator(mode="after")
    def _one_source(self) -> FileEntry:
        given = [kind for kind in ("urls", "source", "generate") if getattr(self, kind)]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ValueError(f"file {self.name!r} needs one of urls, source, generate; found {found}")
        if not self.generate and not (self.bytes and self.sha256):
            raise ValueError(f"file {self.name!r} needs bytes and sha256, so that a download can be checked")
        if self.source and not self.package_sha256:
            raise ValueError(f"file {self.name!r} needs package_sha256, the hash of the package it lies in")
        if self.source:
            inside = self.package.inside
            if inside.startswith("/") or ".." in inside.split("/"):
                raise ValueError(f"file {self.name!r}: the path inside the package leads outside: {inside!r}")
        return self

    @property
    def package(self) -> Package:
        """``source`` taken apart."""
        for pattern in _PACKAGES:
            if match := pattern.fullmatch(self.source or ""):
                return Package(*match.groups())  # type: ignore[arg-type]  # the pattern holds the registry's name
        raise ValueError(
            f"file {self.name!r}: a source reads pypi:NAME==VERSION!path/inside or "
            f"npm:NAME@VERSION!path/inside; found {self.source!r}"
        )


class Variable(_Strict):
    """One variable as it stands in the files."""

    name: str
    unit: str = Field(description="as astropy.units or CF write it; '1' for none")
    description: str = ""
    dtype: Literal["bool", "uint8", "int32", "int64", "float32", "float64", "string"] = "float64"
    dims: tuple[str, ...] = ("sample",)
    column: int | None = Field(default=None, ge=0, description="position in a table without a header")
    file: str | None = Field(default=None, description="the file that holds this variable and no other")


class Splits(_Strict):
    """How rows are divided: fractions of the groups, and what a group is (splits never cut one)."""

    group: str
    train: float = Field(default=0.8, ge=0, le=1)
    valid: float = Field(default=0.1, ge=0, le=1)
    test: float = Field(default=0.1, ge=0, le=1)
    note: str = Field(
        default="", description="a division that its makers published, and how this relates to it"
    )

    @model_validator(mode="after")
    def _sum(self) -> Splits:
        if abs(self.train + self.valid + self.test - 1) > 1e-9:
            raise ValueError(f"train + valid + test is {self.train + self.valid + self.test:g}, should be 1")
        return self

    @property
    def fractions(self) -> dict[str, float]:
        return {"train": self.train, "valid": self.valid, "test": self.test}


class Manifest(_Strict):
    """A data set: what it is, where its files come from, and under which terms.

    license: an SPDX identifier, or ``LicenseRef-…`` with ``license_note`` for what has none
    """

    name: str = Field(pattern=f"^{_NAME.pattern}$")
    version: str
    title: str
    description: str
    license: str = Field(pattern=r"^[A-Za-z0-9.+-]+$")
    license_note: str = ""
    homepage: str | None = None
    published: str | None = Field(default=None, pattern=r"^\d{4}(-\d{2}){0,2}$")
    citation: Citation
    files: tuple[FileEntry, ...] = Field(min_length=1)
    variables: tuple[Variable, ...] = ()
    splits: Splits

    @model_validator(mode="after")
    def _distinct(self) -> Manifest:
        for kind in ("files", "variables"):
            names = [entry.name for entry in getattr(self, kind)]
            if twice := {name for name in names if names.count(name) > 1}:
                raise ValueError(f"{kind}: {sorted(twice)} given twice")
        for variable in self.variables:
            if variable.file is not None and variable.file not in {entry.name for entry in self.files}:
                raise ValueError(
                    f"variable {variable.name!r} lies in {variable.file!r}, which is no file here"
                )
        if self.license.startswith("LicenseRef-") and not self.license_note:
            raise ValueError(f"license {self.license!r} is not SPDX: say in license_note what it allows")
        return self

    @property
    def generated(self) -> bool:
        """Whether our own code makes files of it: then it takes parameters and a seed."""
        return any(file.generate for file in self.files)

    def file(self, name: str) -> FileEntry:
        """The file called ``name``; InputError with the nearest name."""
        found = {entry.name: entry for entry in self.files}
        if name not in found:
            raise InputError(f"data set {self.name!r} has no file {name!r}{did_you_mean(name, found)}")
        return found[name]


def list_manifests() -> list[str]:
    """The names of all known data sets."""
    return sorted(_manifest_files())


def load_manifest(name: str | Path) -> Manifest:
    """The manifest called ``name``, or the one in a YAML file given by its path.

    Raises InputError: for an unknown name with the nearest known one, for a bad file with the key at fault.

    >>> load_manifest("hipparcos").license
    'LicenseRef-public-domain'
    """
    path = Path(name)
    given = path.suffix in {".yaml", ".yml"}
    if not given:
        known = _manifest_files()
        if str(name) not in known:
            raise InputError(f"unknown data set {str(name)!r}{did_you_mean(str(name), known)}")
        path = known[str(name)]
    from sciencevae.config import read_yaml

    plain = read_yaml(path)
    if not isinstance(plain, dict):
        raise InputError(f"{path}: a manifest is a mapping of keys, found {type(plain).__name__}")
    try:
        manifest = Manifest.model_validate(plain)
    except ValidationError as error:
        raise InputError(f"{path}: {_one_line(error)}") from error
    if path.stem != manifest.name:
        raise InputError(f"{path}: the manifest is named {manifest.name!r}; a file is named as its data set")
    if given:
        _check_generators(manifest, path)
    return manifest


def _check_generators(manifest: Manifest, path: Path) -> None:
    """InputError where a file that anybody may have written names a module to run that is of no domain."""
    domains = {"sciencevae.builtin", *(_package(point) for point in entry_points(group="sciencevae.domains"))}
    for entry in manifest.files:
        command = entry.generate.command if entry.generate else None
        if command and not any(command.startswith(f"{domain}.") for domain in domains):
            raise InputError(
                f"{path}: {entry.name} is made by {command}, which belongs to no domain here: install the package "
                "of its domain, or put the domain into a folder named by SCIENCEVAE_DOMAINS"
            )


def _package(point: EntryPoint) -> str:
    """The top package of a domain that is not ours."""
    return point.module.partition(".")[0] if not point.module.startswith("sciencevae.") else point.module


def _manifest_files() -> Mapping[str, Path]:
    """name -> file: our own, and those in a folder ``data_manifests`` inside any domain."""
    import sciencevae.builtin

    folders = [manifests_folder()]
    folders += [
        f for place in sciencevae.builtin.__path__ for f in sorted(Path(place).glob("*/data_manifests"))
    ]
    for point in entry_points(group="sciencevae.domains"):
        top, *rest = point.module.split(".")
        if top != "sciencevae" and (spec := find_spec(top)) is not None:
            places = spec.submodule_search_locations or []
            folders += [Path(place, *rest, "data_manifests") for place in places]
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def _one_line(error: ValidationError) -> str:
    """The first thing wrong in a manifest: where, and what was expected."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        model: Any = Manifest
        for part in first["loc"][:-1]:
            if isinstance(part, str):
                kinds = {"files": FileEntry, "variables": Variable, "generate": Generate}
                model = kinds.get(part) or {"citation": Citation, "splits": Splits}.get(part, model)
        return f"unknown key {where!r}{did_you_mean(str(first['loc'][-1]), model.model_fields)}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
