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


def code_digest(functions: Iterable[Callable[..., Any] | None], package: str) -> str:
    """A name for the source of the modules of ``functions``, and of what they import of the same package.

    Nothing is imported to find out. The module ``settings`` is left out, because settings count by their values;
    so is what lies outside the package. Raises RunError for a module with an error of syntax.
    """
    home = sys.modules[package]
    folder = Path(home.__path__[0]) if hasattr(home, "__path__") else None
    waiting = {_module(f) for f in functions if f is not None}
    found: dict[str, bytes] = {}
    while waiting:
        module = waiting.pop()
        path = Path(home.__file__ or "") if module == package else _file(module, package, folder)
        if path is None or module in found or module == f"{package}.settings":
            continue
        found[module], imported = _source(path, module)
        waiting |= imported - {package}  # that names a domain and its functions, it does not do their work
    whole = hashlib.sha256()
    for module in sorted(found):
        whole.update(module.removeprefix(package).encode() + b"\0" + found[module] + b"\0")
    return whole.hexdigest()[:12]


def _module(function: Any) -> str:
    """Where a function is written; of a partial one the function that it calls."""
    while isinstance(function, partial):
        function = function.func
    return str(getattr(function, "__module__", ""))


def _file(module: str, package: str, folder: Path | None) -> Path | None:
    """Where a module of the package lies; None for what is no module of it."""
    if folder is None or not module.startswith(f"{package}."):
        return None
    path = folder.joinpath(*module.removeprefix(f"{package}.").split("."))
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
