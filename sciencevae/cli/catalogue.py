"""Verbs that look things up: ``domains``, ``datasets``, ``data``, ``config``, ``doctor``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from sciencevae.cli.pipeline import Verb
from sciencevae.errors import RunError

__all__ = ["add"]


def add(verb: Verb) -> None:
    """Declare the verbs."""
    verb("domains", "list the domains", "sciencevae domains").set_defaults(call=_domains)
    verb("datasets", "list the data sets", "sciencevae datasets").set_defaults(call=_datasets)

    data = verb(
        "data", "copies and descriptions of data sets", "sciencevae data mirror /scratch/mirror hipparcos"
    )
    tasks = data.add_subparsers(metavar="TASK", required=True)
    mirror = tasks.add_parser("mirror", help="copy the files that a machine without internet needs")
    mirror.add_argument("folder", metavar="DEST")
    mirror.add_argument("datasets", metavar="DATASET", nargs="*", help="default: all")
    mirror.set_defaults(call=_mirror)
    croissant = tasks.add_parser("croissant", help="a data set's description as Croissant JSON-LD")
    croissant.add_argument("dataset", metavar="DATASET")
    croissant.set_defaults(call=_croissant)

    config = verb("config", "the settings of a domain", "sciencevae config schema xy")
    tasks = config.add_subparsers(metavar="TASK", required=True)
    schema = tasks.add_parser("schema", help="the JSON schema of a domain's configuration")
    schema.add_argument("domain")
    schema.set_defaults(call=_schema)
    show = tasks.add_parser("show", help="the resolved configuration of a domain")
    show.add_argument("domain")
    show.add_argument("--config", metavar="NAME|FILE")
    show.add_argument("--set", metavar="KEY=VALUE", action="append", default=[])
    show.set_defaults(call=_show)

    verb("doctor", "check this machine, and say what to fix", "sciencevae doctor").set_defaults(call=_doctor)


def _domains(arguments: argparse.Namespace) -> int:
    from sciencevae.registry import domain, domains, weights

    names = domains()
    width = max(map(len, names), default=0)
    broken = 0
    for name in names:
        try:
            found = domain(name)
            print(f"{name:<{width}}  {found.title}: {found.summary}")
        except RunError as error:
            broken += 1
            print(f"{name:<{width}}  {error}", file=sys.stderr)
    if models := sorted(weights()):
        print(f"\ntrained models that come along, for --model and sv.load: {', '.join(models)}")
    return 1 if broken else 0


def _datasets(arguments: argparse.Namespace) -> int:
    from sciencevae.data.manifest import list_manifests, load_manifest

    names = list_manifests()
    width = max(map(len, names), default=0)
    for name in names:
        manifest = load_manifest(name)
        print(f"{name:<{width}}  {manifest.title} ({manifest.license})")
    return 0


def _mirror(arguments: argparse.Namespace) -> int:
    from sciencevae.data.fetch import mirror

    for path in mirror(Path(arguments.folder), arguments.datasets or None):
        print(path)
    return 0


def _croissant(arguments: argparse.Namespace) -> int:
    from sciencevae.data.croissant import croissant
    from sciencevae.data.manifest import load_manifest

    json.dump(croissant(load_manifest(arguments.dataset)), sys.stdout, indent=2, ensure_ascii=False)
    print()
    return 0


def _schema(arguments: argparse.Namespace) -> int:
    from sciencevae.registry import domain

    json.dump(domain(arguments.domain).settings.model_json_schema(), sys.stdout, indent=2, ensure_ascii=False)
    print()
    return 0


def _show(arguments: argparse.Namespace) -> int:
    import yaml

    from sciencevae.config import load
    from sciencevae.registry import domain

    settings = load(domain(arguments.domain), arguments.config, arguments.set)
    yaml.safe_dump(settings.dump(), sys.stdout, sort_keys=False, allow_unicode=True)
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from sciencevae.doctor import checks

    failed = 0
    for name, good, found, remedy in checks():
        failed += not good
        print(f"{'ok  ' if good else 'FIX '} {name}: {found}{'' if good else f' → {remedy}'}")
    return 1 if failed else 0
