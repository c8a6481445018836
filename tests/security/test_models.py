"""Model files and checkpoints made to run code, to fill the memory, or to set what is not theirs to set."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import sciencevae as sv
from sciencevae.errors import InputError, RunError
from sciencevae.latents.forecast import load_forecaster
from sciencevae.latents.trained import Trained
from sciencevae.training.checkpoint import read_tensors
from sciencevae.training.state import State
from sciencevae.vae.files import load, load_metadata, save


class Touch:
    """Unpickled, or called, it makes a file: proof that code ran."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def model() -> sv.VAE:
    return sv.VAE(
        sv.priors.StandardNormal(2),
        sv.encoders.Gaussian(sv.networks.Perceptron(4, [8], 4), dim=2),
        sv.decoders.Gaussian(sv.networks.Perceptron(2, [8], 4), scale="learned"),
    )


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    save(model(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def with_header(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The same file with its metadata changed: ``change`` gets what ``save`` described."""
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    said = json.loads(header["__metadata__"]["sciencevae"])
    change(said)
    header["__metadata__"]["sciencevae"] = json.dumps(said)
    return raw_header(path, json.dumps(header).encode(), raw[8 + size :])


def raw_header(path: Path, header: bytes, data: bytes, size: int | None = None) -> Path:
    path = path.with_name("evil.safetensors")
    path.write_bytes(struct.pack("<Q", len(header) if size is None else size) + header + data)
    return path


# ---- code


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_no_pickle_is_loaded(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "evil.safetensors"
    path.write_bytes(pickle.dumps(Touch(tmp_path / "ran"), protocol))
    for read in (load, load_metadata, load_forecaster, Trained.open):
        with pytest.raises((InputError, RunError)):
            read(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_no_file_of_torch_is_loaded(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "evil.safetensors"
    torch.save({"model": Touch(tmp_path / "ran")}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match="holds a pickle, which could run any code"):
        load(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "builtins.exec",
        "subprocess.Popen",
        "torch.load",
        "torch.nn.modules.linear.Linear",
        "sciencevae.vae.files.load",
        "sciencevae.vae.model.VAE.__init__",
        "tests.security.test_models.Touch",
        "__main__.Touch",
        "",
        ["os", "system"],
        {"class": "os.system"},
        None,
        1,
    ],
)
def test_a_header_names_recorded_classes_and_nothing_else(whole: Path, tmp_path: Path, name: Any) -> None:
    def change(said: dict[str, Any]) -> None:
        said["model"]["arguments"]["prior"] = {
            "class": name,
            "arguments": {"command": f"touch {tmp_path / 'ran'}"},
        }

    with pytest.raises(InputError, match="which no installed part or domain provides"):
        load(with_header(whole, change))
    assert not (tmp_path / "ran").exists()


def test_a_domain_is_a_registered_one(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    for name in ("evil", "os", "../evil", str(tmp_path / "evil"), "..", ["evil"], {"a": 1}, "a.b"):
        path = with_header(whole, lambda said, name=name: said.update(domain=name))
        for read in (load, Trained.open):
            with pytest.raises(InputError, match=r"unknown domain|does not say which domain"):
                read(path)
    assert not (tmp_path / "ran").exists()


def test_a_description_of_something_else_is_no_model(whole: Path) -> None:
    part = {"class": "sciencevae.vae.priors.normal.StandardNormal", "arguments": {"dim": 2}}
    for other in (part, [part], 5, None, "x", {}, {"same as": 0}, {"same as": -1}, {"same as": "x"}):
        with pytest.raises(InputError, match=r"describes|header"):
            load(with_header(whole, lambda said, other=other: said.update(model=other)))


@pytest.mark.parametrize("key", ["dim", "self", "__class__", "forward", "no such"])
@pytest.mark.parametrize("value", [-1, 0, 1.5, "2", None, [], {}, 10**30, True, [[1]]])
def test_arguments_that_are_none(whole: Path, key: str, value: Any) -> None:
    def change(said: dict[str, Any]) -> None:
        said["model"]["arguments"]["prior"]["arguments"][key] = value

    with pytest.raises(InputError) as refused:
        load(with_header(whole, change))
    assert "\n" not in str(refused.value)


# ---- memory


@pytest.mark.parametrize("size", [10**5, 10**9, 2**62, 10**30])
def test_a_header_gets_no_more_memory_than_its_weights_need(
    whole: Path, bounded: Callable[..., Any], size: int
) -> None:
    """Layers of 10⁵ × 10⁵ would be 40 GB, written with random numbers before any shape is compared."""

    def change(said: dict[str, Any]) -> None:
        said["model"]["arguments"]["encoder"]["arguments"]["network"]["arguments"]["hidden"] = [size, size]

    with bounded(seconds=15, megabytes=200), pytest.raises(InputError):
        load(with_header(whole, change))


@pytest.mark.parametrize("size", [1 << 30, 1 << 40, 1 << 63, (1 << 64) - 1, 0, 1])
def test_the_length_of_a_header_is_checked(whole: Path, bounded: Callable[..., Any], size: int) -> None:
    raw = whole.read_bytes()
    path = raw_header(whole, b"", raw[8:], size)
    with path.open("r+b") as file:  # as long as it says, without taking the room
        file.truncate(min(8 + size, 2 << 30))
    with bounded(megabytes=3000), pytest.raises((InputError, RunError)):
        load(path)


@pytest.mark.parametrize(
    "tensor",
    [
        {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [10**18, 10**18], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2**32, 2**32], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**63]},
        {"dtype": "F32", "shape": [1], "data_offsets": [2**63, 2**63 + 4]},
        {"dtype": "O", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": "x", "data_offsets": [0, 4]},
        {"dtype": "F32"},
        [],
    ],
)
def test_offsets_and_shapes_that_lie(tmp_path: Path, bounded: Callable[..., Any], tensor: Any) -> None:
    header = {"__metadata__": {"sciencevae": "{}"}, "x": tensor}
    path = raw_header(tmp_path / "a", json.dumps(header).encode(), bytes(4))
    with bounded(), pytest.raises((InputError, RunError)) as refused:
        read_tensors(path, "fetch it again")
    assert str(refused.value).endswith("fetch it again")


def test_tensors_that_overlap_are_refused(tmp_path: Path) -> None:
    """Otherwise a small file could hold any number of large tensors."""
    one = {"dtype": "F32", "shape": [1024], "data_offsets": [0, 4096]}
    header = {"__metadata__": {"sciencevae": "{}"}} | {f"x{n}": one for n in range(100)}
    with pytest.raises(RunError, match="damaged"):
        read_tensors(raw_header(tmp_path / "a", json.dumps(header).encode(), bytes(4096)), "fetch it again")


@pytest.mark.parametrize("said", ["[]", "5", "null", "{", "[" * 100_000, '"x"', "NaN", "{}"])
def test_metadata_that_are_no_object(tmp_path: Path, said: str) -> None:
    header = json.dumps({"__metadata__": {"sciencevae": said}}).encode()
    path = raw_header(tmp_path / "a", header, b"")
    for read in (load, load_forecaster, Trained.open):
        with pytest.raises(InputError):
            read(path)


def test_a_pipe_or_a_folder_is_no_model(tmp_path: Path, bounded: Callable[..., Any]) -> None:
    import os

    os.mkfifo(tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").mkdir()
    for name in ("a.safetensors", "b.safetensors"):
        with bounded(seconds=10), pytest.raises(InputError, match=r"is no file|is a folder"):
            load(tmp_path / name)


# ---- checkpoints


def test_a_checkpoint_sets_its_own_five_values_and_no_others(tmp_path: Path) -> None:
    network = nn.Linear(2, 2)
    named = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
    state = State.new(named, {}, average=False, members=1)
    state.save(tmp_path / "checkpoint.safetensors", {"a": 1})

    def change(said: dict[str, Any]) -> None:
        said["state"] |= {"save": 1, "__class__": "x", "parameters": {}, "epoch": 7}

    path = with_header(tmp_path / "checkpoint.safetensors", change)
    state.load(path, {"a": 1})
    assert state.epoch == 7
    assert callable(state.save)
    assert set(state.parameters) == set(named)


def test_a_part_of_others_is_still_loaded(tmp_path: Path) -> None:
    """A class from elsewhere may look at its weights when it is made, which no part without memory can."""

    @sv.spec.recorded
    class Looking(nn.Module):
        def __init__(self, numbers: int) -> None:
            super().__init__()
            self.linear = nn.Linear(4, numbers)
            self.largest = float(self.linear.weight.detach().max())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x)

    made = model()
    made.encoder = sv.encoders.Gaussian(Looking(4), dim=2)
    save(made, tmp_path / "model.safetensors")
    back = load(tmp_path / "model.safetensors")
    assert torch.equal(back.encoder.network.linear.weight, made.encoder.network.linear.weight)
