"""How a model is rebuilt from its file: each part records the arguments it was made with.

``@recorded`` on a module class keeps the constructor's arguments; ``describe`` turns a tree of such modules
into plain JSON and ``rebuild`` makes it again. Nothing is pickled, and a name in a file can only reach
classes that were decorated, in this package or in a registered domain.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from sciencevae.errors import InputError
from sciencevae.paths import checkout_folder

__all__ = ["describe", "foreign", "rebuild", "recorded"]

_CLASSES: dict[str, type[nn.Module]] = {}
Module = TypeVar("Module", bound=type[nn.Module])


def recorded(cls: Module) -> Module:
    """Class decorator: remember the arguments of each instance, and the class by its qualified name."""
    construct: Callable[..., None] = cls.__init__
    signature = inspect.signature(construct)

    @functools.wraps(construct)
    def __init__(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        construct(self, *args, **kwargs)
        if type(self) is cls:
            # beside nn.Module's own bookkeeping: an argument that is a module must not be registered twice
            object.__setattr__(self, "_arguments", dict(list(bound.arguments.items())[1:]))

    cls.__init__ = __init__  # type: ignore[method-assign]
    _CLASSES[_name(cls)] = cls
    return cls


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def describe(value: Any) -> Any:
    """The JSON description of a module tree, ``{"class": name, "arguments": {…}}``.

    A module that stands in several places is described at the first, and named by its number, in the order in
    which they are built, at the others: ``{"same as": number}``.

    Raises InputError for a module whose class is not ``@recorded``, naming it.
    """
    return _describe(value, [])


def _describe(value: Any, done: list[nn.Module]) -> Any:
    if isinstance(value, nn.Module):
        if (number := next((i for i, module in enumerate(done) if module is value), None)) is not None:
            return {"same as": number}
        recorded_arguments: dict[str, Any] | None = getattr(value, "_arguments", None)
        if recorded_arguments is None:
            raise InputError(
                f"a model is saved by what its parts were built from, and {_name(type(value))} does not say: "
                "decorate the class with @sciencevae.spec.recorded (its arguments must be plain values)"
            )
        arguments = {k: _describe(_current(value, k, v), done) for k, v in recorded_arguments.items()}
        done.append(value)
        return {"class": _name(type(value)), "arguments": arguments}
    if isinstance(value, dict):
        return {str(k): _describe(v, done) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_describe(v, done) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InputError(f"{value!r} of type {type(value).__name__} can't be saved as a constructor's argument")


def _current(module: nn.Module, name: str, argument: Any) -> Any:
    """An argument as it is now: modules may have been exchanged since (a prior refitted on a trained model)."""
    now = getattr(module, name, argument)
    if isinstance(argument, nn.Module):
        return now
    if isinstance(argument, Mapping) and isinstance(now, nn.ModuleDict):
        return dict(now.items())
    return argument


def rebuild(description: Any) -> Any:
    """The inverse of ``describe``, with fresh weights."""
    return _rebuild(description, [])


def _rebuild(description: Any, done: list[nn.Module]) -> Any:
    if isinstance(description, dict) and set(description) == {"same as"}:
        return done[description["same as"]]
    if isinstance(description, dict) and set(description) == {"class", "arguments"}:
        cls = _CLASSES.get(str(description["class"]))
        if cls is None:
            raise InputError(
                f"the file names {description['class']}, which no installed part or domain provides: "
                "install the package of its domain, or a version of sciencevae that has it"
            )
        module = cls(**{k: _rebuild(v, done) for k, v in description["arguments"].items()})
        done.append(module)
        return module
    if isinstance(description, dict):
        return {k: _rebuild(v, done) for k, v in description.items()}
    if isinstance(description, list):
        return [_rebuild(v, done) for v in description]
    return description


def foreign(description: Any) -> bool:
    """Whether a description names a class that does not come with sciencevae."""
    if isinstance(description, dict):
        cls = _CLASSES.get(str(description.get("class")))
        if cls is not None and not _comes_along(cls):
            return True
        return any(map(foreign, description.values()))
    return isinstance(description, list) and any(map(foreign, description))


def _comes_along(cls: type) -> bool:
    place = Path(inspect.getfile(cls)).resolve()
    own = [Path(__file__).resolve().parent, checkout_folder("domains")]
    return any(folder is not None and place.is_relative_to(folder) for folder in own)
