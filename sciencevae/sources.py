"""The code that a stage of a domain runs, as a short name that changes when the code does."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Callable, Iterable
from functools import cache, partial
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from sciencevae.errors import RunError

__all__ = ["code_digest"]


def code_digest(functions: Iterable[Callable[..., Any] | None]) -> str:
    """A name for the source of the modules of ``functions``, and of what each imports of its own package.

    Nothing is imported to find out. A module ``settings`` is left out, because settings count by their values; so
    is what lies outside the package. Raises RunError for a module with an error of syntax.
    """
    waiting = {(module, _package(module)) for module in map(_module, functions) if module}
    found: dict[str, bytes] = {}
    while waiting:
        module, package = waiting.pop()
        path = _file(module, package)
        if path is None or module in found or module == f"{package}.settings":
            continue
        found[module], imported = _source(path, module)
        # the package itself names a domain and its functions, it does not do their work
        waiting |= {(name, package) for name in imported - {package}}
    whole = hashlib.sha256()
    for module in sorted(found):
        whole.update(module.encode() + b"\0" + found[module] + b"\0")
    return whole.hexdigest()[:12]


def _module(function: Any) -> str:
    """Where a function is written; of a partial one the function that it calls."""
    while isinstance(function, partial):
        function = function.func
    return "" if function is None else str(getattr(function, "__module__", ""))


def _package(module: str) -> str:
    """The package that a module is of: itself where it is one, or stands alone."""
    return module if hasattr(sys.modules.get(module), "__path__") else module.rpartition(".")[0] or module


def _file(module: str, package: str) -> Path | None:
    """Where a module of a package that is imported lies; None for what is no module of it."""
    home = sys.modules[package]
    if module == package:
        file = getattr(home, "__file__", None)
        return Path(file) if file else None
    if not module.startswith(f"{package}.") or not hasattr(home, "__path__"):
        return None
    path = Path(home.__path__[0]).joinpath(*module.removeprefix(f"{package}.").split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


@cache
def _source(path: Path, module: str) -> tuple[bytes, set[str]]:
    """The text of a module, and the names that may be modules it imports."""
    text = path.read_bytes()
    here = module if path.name == "__init__.py" else module.rpartition(".")[0]
    imported = set()
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise RunError(f"{path}, line {error.lineno}: {error.msg}: mend it, and run again") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), here) if node.level else node.module
            # `from . import networks` names a module, `from .networks import Encoder` a class: both are tried
            imported |= {str(base), *(f"{base}.{name.name}" for name in node.names)}
    return text, imported
