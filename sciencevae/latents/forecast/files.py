"""A fitted forecaster as one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from sciencevae.errors import InputError
from sciencevae.latents.forecast.base import Forecaster
from sciencevae.spec import describe, rebuild
from sciencevae.training.checkpoint import as_described, read_tensors, write_tensors

__all__ = ["load_forecaster", "save_forecaster"]

REMEDY = "give a file written by save_forecaster"
#: the one tensor whose shape the arguments do not say: it has the lead times of the calibration
CALIBRATED = "inflation"


def save_forecaster(
    forecaster: Forecaster, path: str | Path, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write the forecaster to ``path`` (customarily ``.safetensors``), whole or not at all.

    metadata: what should travel along, as plain JSON values (the model whose latents they are, the time step …).
    """
    header = {"kind": "forecaster", "forecaster": describe(forecaster), **(metadata or {})}
    write_tensors(Path(path), forecaster.state_dict(), header)


def load_forecaster(path: str | Path) -> tuple[Forecaster, dict[str, Any]]:
    """The forecaster in a file of ``save_forecaster``, and the metadata that came along. Nothing is unpickled.

    Raises InputError for any other kind of file, RunError for a truncated one.
    """
    import sciencevae.latents.forecast  # noqa: F401  (the classes a file may name)

    tensors, header = read_tensors(Path(path), REMEDY)
    if header.get("kind") != "forecaster":
        raise InputError(
            f"{path} holds no forecaster, but a {header.get('kind', 'file of another kind')}; {REMEDY}"
        )
    with as_described(Path(path), REMEDY):
        forecaster = rebuild(header["forecaster"])
        if not isinstance(forecaster, Forecaster):
            raise InputError(f"{path} describes a {type(forecaster).__name__}, no forecaster; {REMEDY}")
        for name, tensor in forecaster.state_dict().items():
            found = tensors.get(name)
            resized = name.rpartition(".")[2] == CALIBRATED
            if found is None or (found.shape != tensor.shape and not resized):
                raise InputError(f"{path} does not match its own description at {name}; {REMEDY}")
            _put(forecaster, name, found)
    rest = {key: value for key, value in header.items() if key not in {"kind", "forecaster"}}
    return forecaster.eval(), rest


def _put(module: nn.Module, name: str, tensor: Any) -> None:
    where, _, last = name.rpartition(".")
    getattr(module.get_submodule(where), last).data = tensor
