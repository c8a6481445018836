"""All that a training is at one moment: what a checkpoint holds, and how it is written and read back."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sciencevae.errors import InputError
from sciencevae.training.checkpoint import as_described, read_tensors, rng_state, set_rng_state, write_tensors
from sciencevae.training.history import History

__all__ = ["Moment", "State"]

log = logging.getLogger("sciencevae")
REMEDY = "delete it to train from the beginning"
#: what a step changes, and what a validation does
STEPPED = ("parameters", "first", "second", "average", "buffers")
GROUPS = (*STEPPED, "best", "best_buffers")
#: beside the tensors
PLAIN = ("epoch", "step", "finished", "best_loss", "bad_rounds")


class Moment(NamedTuple):
    """What steps have changed up to one of them."""

    tensors: dict[str, Tensor]
    rng: dict[str, Tensor]
    epoch: int
    step: int
    sums: Tensor | None


@dataclass
class State:
    """Tensors by the names of parameters and buffers; in an ensemble of E members each has a leading axis E.

    parameters θ · first, second: AdamW's moments · average: the running average of θ, if there is one ·
    best: θ (or its average) at the best validation · buffers: those that steps change, as the running statistics
    of normalisations; best_buffers: at the best validation · epoch, step: epochs completed, steps done in all ·
    sums (k + 1,) or (E, k + 1): of the parts of the loss and of the weights since the last row of the history ·
    best_loss, bad_rounds: of each member
    """

    parameters: dict[str, Tensor]
    first: dict[str, Tensor]
    second: dict[str, Tensor]
    average: dict[str, Tensor] | None
    best: dict[str, Tensor]
    buffers: dict[str, Tensor]
    best_buffers: dict[str, Tensor]
    best_loss: list[float]
    bad_rounds: list[int]
    epoch: int = 0
    step: int = 0
    sums: Tensor | None = None
    finished: bool = False
    histories: list[History] = field(default_factory=list)

    @classmethod
    def new(
        cls, parameters: dict[str, Tensor], buffers: dict[str, Tensor], average: bool, members: int
    ) -> State:
        def like(make: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
            return {name: make(tensor) for name, tensor in parameters.items()}

        return cls(
            parameters=parameters,
            first=like(torch.zeros_like),
            second=like(torch.zeros_like),
            average=like(torch.clone) if average else None,
            best=like(torch.clone),
            buffers=buffers,
            best_buffers={name: buffer.clone() for name, buffer in buffers.items()},
            best_loss=[math.inf] * members,
            bad_rounds=[0] * members,
            histories=[History() for _ in range(members)],
        )

    @property
    def result(self) -> dict[str, Tensor]:
        """The parameters that training has come to: their running average where one is kept."""
        return self.parameters if self.average is None else self.average

    def moment(self) -> Moment:
        """What steps change, copied."""
        tensors = {name: tensor.clone() for name, tensor in self.tensors(STEPPED).items()}
        return Moment(tensors, rng_state(), self.epoch, self.step, self.sums)

    def go_back(self, moment: Moment) -> None:
        """To what ``moment`` gave, if no validation lies between."""
        for name, tensor in self.tensors(STEPPED).items():
            tensor.copy_(moment.tensors[name])
        set_rng_state(moment.rng)
        self.epoch, self.step, self.sums = moment.epoch, moment.step, moment.sums

    @property
    def plain(self) -> dict[str, Any]:
        """All but the tensors, as JSON says it."""
        histories = [history.to_json() for history in self.histories]
        return {"state": {name: getattr(self, name) for name in PLAIN}, "histories": histories}

    @plain.setter
    def plain(self, found: Mapping[str, Any]) -> None:
        for name in PLAIN:
            setattr(self, name, found["state"][name])
        self.histories = [History(**history) for history in found["histories"]]

    def tensors(self, names: Sequence[str] = GROUPS) -> dict[str, Tensor]:
        """Those of some groups, as ``GROUP/NAME``."""
        groups = {name: getattr(self, name) or {} for name in names}
        return {
            f"{group}/{name}": tensor for group, named in groups.items() for name, tensor in named.items()
        }

    def save(self, path: Path, identity: Mapping[str, Any]) -> None:
        """Write the checkpoint; ``identity`` is what a training must share with it to go on from it."""
        tensors = self.tensors() | {f"rng/{name}": generator for name, generator in rng_state().items()}
        if self.sums is not None:
            tensors["sums"] = self.sums
        metadata = {
            "kind": "checkpoint",
            "identity": identity,
            "environment": environment(),
            **self.plain,
        }
        write_tensors(path, tensors, metadata)

    def load(self, path: Path, identity: Mapping[str, Any]) -> None:
        """Go back to the checkpoint.

        Raises InputError where it belongs to another training, naming what differs. Warns where torch or the
        number of threads differ, on which the last digits depend.
        """
        tensors, metadata = read_tensors(path, REMEDY)
        if metadata.get("kind") != "checkpoint":
            raise InputError(f"{path} is a finished model, not a checkpoint; {REMEDY}")
        with as_described(path, REMEDY):
            self._restore(path, identity, tensors, metadata)

    def _restore(
        self, path: Path, identity: Mapping[str, Any], tensors: dict[str, Tensor], metadata: dict[str, Any]
    ) -> None:
        found = metadata["identity"]
        if differ := [name for name in identity if found.get(name) != identity[name]]:
            name = differ[0]
            short = len(f"{found.get(name)}{identity[name]}") < 80
            detail = f" ({found.get(name)} there, {identity[name]} here)" if short else ""
            raise InputError(
                f"{path} was written by a training with another {', '.join(differ)}{detail}: go on with those "
                f"settings, choose another folder, or {REMEDY}"
            )
        if metadata["environment"] != environment():
            log.warning(
                "the checkpoint was written under %s, this is %s: the result may differ from an uninterrupted "
                "training in the last digits",
                metadata["environment"],
                environment(),
            )
        own = self.tensors()
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
        device = next(iter(own.values())).device
        self.sums = tensors["sums"].to(device) if "sums" in tensors else None
        self.plain = metadata
        if not self.finished:
            set_rng_state({n.removeprefix("rng/"): t for n, t in tensors.items() if n.startswith("rng/")})


def environment() -> dict[str, Any]:
    """What the last digits of a result depend on beside the settings."""
    return {"torch": torch.__version__, "threads": torch.get_num_threads()}
