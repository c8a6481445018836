"""The data and licences of a run as entities of its RO-Crate: named by hash, size and origin, never copied."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciencevae.errors import InputError

if TYPE_CHECKING:
    from rocrate.model.contextentity import ContextEntity
    from rocrate.model.entity import Entity
    from rocrate.rocrate import ROCrate

    from sciencevae.data.manifest import Manifest
    from sciencevae.runs import Run

__all__ = ["DataEntities", "entity", "redistributable"]


def redistributable(manifest: Manifest) -> bool:
    """Whether others may pass a data set on: by a licence of SPDX, or because it is in the public domain."""
    return not manifest.license.startswith("LicenseRef-") or manifest.license == "LicenseRef-public-domain"


def entity(crate: ROCrate, identifier: str, /, *, type: str, **properties: Any) -> ContextEntity:
    """What is known under ``identifier``, made when it is first asked for."""
    from rocrate.model.contextentity import ContextEntity

    found = crate.get(identifier)
    return found or crate.add(ContextEntity(crate, identifier, properties={"@type": type, **properties}))


class DataEntities:
    """What a run was made from, in its crate.

    closed: the data sets of the run that may not be passed on, with their licences; empty where there is none
    """

    def __init__(self, run: Run, record: dict[str, Any], crate: ROCrate) -> None:
        self.run, self.record, self.crate = run, record, crate
        self.manifests = self._manifests()
        own = {m.name: m for name, m in self.manifests.items() if name in run.variants}
        closed = [manifest for manifest in own.values() if not redistributable(manifest)]
        self.closed = ", ".join(f"{manifest.name} ({manifest.license})" for manifest in closed)

    def _manifests(self) -> dict[str, Manifest]:
        """The data sets of the run by variant, and of those that analyses read beside, by name."""
        from sciencevae.data.manifest import load_manifest

        used = {name: v.settings.dataset for name, v in self.run.variants.items() if v.fetches}
        used |= {name: name for name in self.record["beside"]}
        return {name: load_manifest(dataset) for name, dataset in used.items() if dataset}

    def raw(self) -> dict[tuple[str, str], Entity]:
        """(key of the fetch, name) -> each raw file; what a user gave has the key ``input``."""
        found: dict[tuple[str, str], Entity] = {}
        sources = {
            keys["fetch"]: (self.record["files"].get(keys["fetch"], {}), self.manifests.get(variant))
            for variant, keys in self.record["variants"].items()
            if keys["fetch"]
        }
        sources |= {name: (files, self.manifests.get(name)) for name, files in self.record["beside"].items()}
        for key, (files, manifest) in sources.items():
            for name, file in files.items():
                told = {"name": name, "contentSize": str(file["bytes"]), "sha256": file["sha256"]}
                if manifest is not None:
                    told |= {"isPartOf": self._dataset(manifest), "license": self._licence_of(manifest)}
                found[key, name] = entity(self.crate, f"#raw-{key}-{name}", type="CreativeWork", **told)
        if given := self.record["input"]:
            told = {"contentSize": str(given["bytes"]), "sha256": given["sha256"]}
            name = Path(given["path"]).name
            found["input", name] = entity(self.crate, "#input", type="CreativeWork", name=name, **told)
        return found

    def prepared(self) -> dict[str, Entity]:
        """Prepared data by their key: rows and the hash of their content."""
        return {
            key: entity(
                self.crate,
                f"#prepared-{key}",
                type="CreativeWork",
                name=f"prepared data, {data['rows']} samples",
                sha256=data["fingerprint"],
            )
            for key, data in self.record["data"].items()
        }

    def _dataset(self, manifest: Manifest) -> Entity:
        told: dict[str, Any] = {
            "description": " ".join(manifest.description.split()),
            "version": manifest.version,
            "license": self._licence_of(manifest),
            "citation": self._paper(manifest),
        }
        if manifest.homepage:
            told["url"] = manifest.homepage
        if manifest.published:
            told["datePublished"] = manifest.published
        return entity(
            self.crate, f"#dataset-{manifest.name}", type="CreativeWork", name=manifest.title, **told
        )

    def _paper(self, manifest: Manifest) -> Entity:
        citation = manifest.citation
        title = re.search(r"title\s*=\s*[{\"](.*?)[}\"]\s*,?\s*$", citation.bibtex, re.MULTILINE)
        name = title[1].replace("{", "").replace("}", "") if title else manifest.title
        identifier = f"https://doi.org/{citation.doi}" if citation.doi else f"#paper-{manifest.name}"
        return entity(self.crate, identifier, type="ScholarlyArticle", name=name)

    def _licence_of(self, manifest: Manifest) -> Entity:
        return self.licence(manifest.license, manifest.license_note, manifest.name)

    def licence(self, name: str, note: str = "", of: str = "") -> Entity:
        """A licence by its SPDX identifier; one without, by what its data set's manifest says of it."""
        if not name.startswith("LicenseRef-"):
            return entity(self.crate, f"https://spdx.org/licenses/{name}", type="CreativeWork", name=name)
        text = " ".join(note.split())
        return entity(self.crate, f"#licence-of-{of}", type="CreativeWork", name=name, description=text)

    def licence_of_results(self, licence: str | None) -> Entity:
        """What their maker states, or that nothing is stated. InputError for what names no licence."""
        if licence and "://" not in licence and not re.fullmatch(r"[A-Za-z0-9.+-]+", licence):
            raise InputError(
                f"{licence!r} names no licence: give an SPDX identifier, as CC-BY-4.0, or an address"
            )
        if licence and "://" in licence:
            return entity(self.crate, licence, type="CreativeWork", name=licence)
        if licence:
            return self.licence(licence)
        text = "Who made this run has not stated a licence of its results. Workflow and data have their own."
        return entity(self.crate, "#licence", type="CreativeWork", name="not stated", description=text)
