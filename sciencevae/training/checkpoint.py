"""Checkpoints: one safetensors file, whole or absent, from which training goes on bit for bit."""

from __future__ import annotations

import json
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sciencevae.data.atomic import atomic_path
from sciencevae.errors import InputError, RunError, ScienceVAEError

__all__ = ["as_described", "read_tensors", "write_tensors"]


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and JSON metadata as one safetensors file, under its name only when it is complete.

    With a checksum of the tensors, which ``read_tensors`` looks at: the format has none.
    """
    from safetensors.torch import save_file

    plain = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # by the umask; what save_file puts in its place is its owner's alone
        save_file(plain, temporary, {"sciencevae": json.dumps(metadata | {"crc32": _checksum(plain)})})
        temporary.chmod(stat.S_IMODE(mode))


def read_tensors(path: Path, remedy: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and metadata of such a file.

    Raises InputError for a file that is no safetensors file of ours, a pickle above all, and RunError for one
    that is truncated or altered; both end with ``remedy``. Nothing is unpickled.
    """
    from safetensors import SafetensorError, safe_open

    if path.exists() and not path.is_file():
        raise InputError(f"{path} is {'a folder' if path.is_dir() else 'no file'}; {remedy}")
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; {remedy}") from error
    except OSError as error:
        raise RunError(f"{path} can't be read: {error.strerror}; {remedy}") from error
    # a safetensors file is the length of its header, 8 bytes of any value, and then that header, "{…"
    if head[8:9] != b"{" and (head[:2] == b"PK" or head[:1] == b"\x80"):
        raise InputError(f"{path} holds a pickle, which could run any code and is never loaded; {remedy}")
    try:
        with safe_open(path, "pt") as file:
            metadata = json.loads((file.metadata() or {})["sciencevae"])
            if not isinstance(metadata, dict):
                raise KeyError("metadata")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (KeyError, RecursionError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is a safetensors file that sciencevae did not write; {remedy}") from error
    except (SafetensorError, OSError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is truncated or damaged ({error}); {remedy}") from error
    if metadata.pop("crc32", None) not in (None, _checksum(tensors)):  # None: of an earlier version
        raise RunError(f"{path} is damaged (its tensors are not those that were written); {remedy}")
    return tensors, metadata


def _checksum(tensors: dict[str, Tensor]) -> int:
    """CRC-32 of names and values."""
    found = 0
    for name, tensor in sorted(tensors.items()):
        found = zlib.crc32(name.encode(), found)
        found = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, found)
    return found


@contextmanager
def as_described(path: Path, remedy: str) -> Iterator[None]:
    """InputError for a header by which nothing can be built: any of the parts it names may refuse its arguments."""
    try:
        yield
    except ScienceVAEError:
        raise
    except Exception as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"{path} has a header that describes nothing here ({told}); {remedy}") from error


def rng_state() -> dict[str, Tensor]:
    """The state of torch's generator on every device."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def set_rng_state(states: dict[str, Tensor]) -> None:
    """The inverse of ``rng_state``; devices that are not here are passed over."""
    torch.set_rng_state(states["cpu"])
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"cuda{i}" in states:
            torch.cuda.set_rng_state(states[f"cuda{i}"], i)
