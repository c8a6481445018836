"""A manifest as Croissant, the JSON-LD vocabulary for data sets that search engines and loaders read."""

from __future__ import annotations

import mimetypes
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sciencevae.data.archive import packing

if TYPE_CHECKING:
    from sciencevae.data.manifest import FileEntry, Manifest, Variable

__all__ = ["croissant"]

_TYPES = {
    "bool": "sc:Boolean",
    "uint8": "sc:Integer",
    "int32": "sc:Integer",
    "int64": "sc:Integer",
    "float32": "sc:Float",
    "float64": "sc:Float",
    "string": "sc:Text",
}
# the context that the Croissant 1.0 specification prescribes, word for word
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant(manifest: Manifest) -> dict[str, Any]:
    """The manifest as a Croissant 1.0 record.

    A file inside a package is ``containedIn`` the package, named by its package URL (``pkg:pypi/…``,
    ``pkg:npm/…``). The hash of a file is that of its content, also where its url gives it packed. A generated
    file without a hash cannot be a file object there: the description says how it is made.

    Reference: the Croissant format specification 1.0, MLCommons.
    """
    listed = [entry for entry in manifest.files if entry.sha256]
    distribution = {part["@id"]: part for entry in listed for part in _file_objects(entry)}
    recipes = [_recipe(entry) for entry in manifest.files if entry.generate]
    record: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": manifest.name,
        "version": manifest.version,
        "alternateName": manifest.title,
        "description": " ".join([manifest.description.strip(), *recipes]),
        "license": _license(manifest),
        "citeAs": manifest.citation.bibtex.strip(),
        "distribution": list(distribution.values()),
    }
    if manifest.published:
        record["datePublished"] = manifest.published
    if manifest.citation.doi:
        record["sameAs"] = f"https://doi.org/{manifest.citation.doi}"
    if manifest.homepage or manifest.citation.doi:
        record["url"] = manifest.homepage or f"https://doi.org/{manifest.citation.doi}"
    if manifest.variables:
        record["variableMeasured"] = [
            {"@type": "sc:PropertyValue", "name": v.name, "unitText": v.unit, "description": v.description}
            for v in manifest.variables
        ]
    if manifest.variables and listed:
        record["recordSet"] = [
            {
                "@type": "cr:RecordSet",
                "@id": "samples",
                "name": "samples",
                "field": [
                    _field(variable, variable.file or listed[0].name) for variable in manifest.variables
                ],
            }
        ]
    return record


def _license(manifest: Manifest) -> str:
    if manifest.license.startswith("LicenseRef-"):
        return manifest.license_note.strip()
    return f"https://spdx.org/licenses/{manifest.license}"


def _file_objects(entry: FileEntry) -> list[dict[str, Any]]:
    encoding = mimetypes.guess_type(entry.name)[0] or "application/octet-stream"
    found: dict[str, Any] = {
        "@type": "cr:FileObject",
        "@id": entry.name,
        "name": entry.name,
        "encodingFormat": "application/x-hdf5" if entry.name.endswith((".h5", ".hdf5")) else encoding,
    }
    if entry.bytes:
        found["contentSize"] = f"{entry.bytes} B"
    if entry.sha256:
        found["sha256"] = entry.sha256
    if entry.urls:
        packed = packing(urlsplit(entry.urls[0]).path, entry.name)
        note = f"Packed at its address ({packed}); size and hash are those of the content."
        return [found | {"contentUrl": entry.urls[0]} | ({"description": note} if packed else {})]
    if entry.generate:
        return [found | {"contentUrl": f"python:{entry.generate.command}", "description": _recipe(entry)}]
    package = entry.package
    npm = package.registry == "npm"
    archive = f"{package.name}-{package.version}{'.tgz' if npm else '.whl'}"
    outer = {
        "@type": "cr:FileObject",
        "@id": archive,
        "name": archive,
        "contentUrl": f"pkg:{package.registry}/{package.name.replace('@', '%40')}@{package.version}",
        "encodingFormat": "application/gzip" if npm else "application/zip",
        "sha256": entry.package_sha256,
    }
    inside = f"package/{package.inside}" if npm else package.inside
    return [outer, found | {"contentUrl": inside, "containedIn": {"@id": archive}}]


def _recipe(entry: FileEntry) -> str:
    assert entry.generate is not None
    recipe = entry.generate
    return f"{entry.name} is made by {recipe.command} with {recipe.parameters} and seed {recipe.seed}."


def _field(variable: Variable, file: str) -> dict[str, Any]:
    unit = "" if variable.unit == "1" else f" Unit: {variable.unit}."
    dims = "" if len(variable.dims) <= 1 else f" Dimensions: {', '.join(variable.dims)}."
    column = variable.name if variable.column is None else str(variable.column)
    extract = {"fileProperty": "content"} if variable.file else {"column": column}
    return {
        "@type": "cr:Field",
        "@id": f"samples/{variable.name}",
        "name": variable.name,
        "description": f"{variable.description.strip()}{unit}{dims}".strip(),
        "dataType": _TYPES[variable.dtype],
        "source": {"fileObject": {"@id": file}, "extract": extract},
    }
