"""A finished model as one safetensors file: weights, and in its header all that is needed to rebuild it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sciencevae.errors import InputError, did_you_mean
from sciencevae.spec import describe, foreign, rebuild
from sciencevae.training.checkpoint import as_described, read_tensors, write_tensors
from sciencevae.vae.model import VAE

__all__ = ["load", "load_metadata", "model_path", "save", "weights_digest"]

REMEDY = "give a file written by sciencevae.save"
_MOST_CONSTANTS = 1 << 27  # numbers in buffers that a file does not hold, as the mask of a sequence


def save(model: VAE, path: str | Path, metadata: Mapping[str, Any] | None = None) -> None:
    """Write the model to ``path`` (customarily ``.safetensors``), whole or not at all.

    metadata: what should travel along, as plain JSON values (domain, units, scaling, metrics …).

    Raises InputError for a model with a part that does not record its arguments (``spec.recorded``).
    """
    header = {"kind": "model", "model": describe(model), **(metadata or {})}
    write_tensors(Path(path), _tensors(model), header)


def load(path: str | Path) -> VAE:
    """The model in a file written by ``save``, rebuilt from that file alone, in evaluation mode.

    path: of the file, or the name of a model that comes with sciencevae (``registry.weights``). Nothing is
    unpickled and no code is taken from the file. Raises InputError for any other kind of file and RunError for a
    truncated one.
    """
    import sciencevae.networks
    import sciencevae.vae.vq  # noqa: F401  (the classes a file may name)

    tensors, metadata = read_tensors(model_path(path), REMEDY)
    if metadata.get("kind") != "model":
        raise InputError(f"{path} is a training checkpoint, not a finished model; {REMEDY}")
    if domain := metadata.get("domain"):
        from sciencevae.registry import domain as registered

        registered(str(domain)).load_networks()  # they record themselves when they are imported
    with as_described(Path(path), REMEDY):
        if not foreign(metadata["model"]):  # others' parts may look at their weights when they are made
            with torch.device("meta"):  # without memory, of which a header could ask for any amount
                _check(rebuild(metadata["model"]), tensors, path)
        model = rebuild(metadata["model"])
        _check(model, tensors, path)
        for name, tensor in _tensors(model).items():
            tensor.data = tensors[name].to(tensor.device)
        dtype = next((p.dtype for p in model.parameters()), torch.get_default_dtype())
        for name, buffer in model.named_buffers():
            if name not in tensors and buffer.is_floating_point():  # constants, which follow the weights
                buffer.data = buffer.to(dtype)
        return model.eval()


def _check(model: Any, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """InputError for what is no model, or not the one whose weights these are."""
    if not isinstance(model, VAE):
        raise InputError(f"{path} describes a {type(model).__name__}, not a model; {REMEDY}")
    own = _tensors(model)
    if {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in tensors.items()}:
        differ = sorted(set(own) ^ set(tensors)) or sorted(n for n in own if own[n].shape != tensors[n].shape)
        raise InputError(f"{path} does not match its own description at {differ[0]}; {REMEDY}")
    constants = sum(buffer.numel() for name, buffer in model.named_buffers() if name not in own)
    if constants > _MOST_CONSTANTS:
        raise InputError(
            f"{path} describes a model with {constants:,} constants beside its weights; {REMEDY}"
        )


def model_path(path: str | Path) -> Path:
    """The file of a model, given by its path or by the name of one that comes with sciencevae."""
    if Path(path).suffix or Path(path).exists():
        return Path(path)
    from sciencevae.registry import weights

    known = weights()
    if str(path) not in known:
        raise InputError(
            f"no model {str(path)!r}: it is no file{did_you_mean(str(path), known) if known else ''}"
        )
    return known[str(path)]


def load_metadata(path: str | Path) -> dict[str, Any]:
    """What ``save`` was given beside the model: domain, units, scaling, metrics …"""
    _, metadata = read_tensors(model_path(path), REMEDY)
    return metadata


def weights_digest(model: VAE) -> str:
    """The sha256 of a model's weights: names, types, shapes and values, without what else its file says."""
    digest = hashlib.sha256()
    for name, tensor in sorted(_tensors(model).items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers; one that several parts share is there once, under its first name."""
    kept = model.state_dict(keep_vars=True)
    named = [*model.named_parameters(), *model.named_buffers()]  # each shared one appears once
    return {name: tensor for name, tensor in named if name in kept}
