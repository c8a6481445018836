"""One batch: what a model sees of the data at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sciencevae.errors import InputError

__all__ = ["Batch"]

Fields = Tensor | Mapping[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """Data x with what is known beside it, the first axis of every tensor being the batch axis B.

    x:       (B, *E), or a mapping of named fields {name: (B, *E_name)}; missing entries are NaN (integers: −1)
    context: named tensors a model may condition on: ``condition`` (B, c), ``noise`` (B, n) standard
             deviations or (B, n, n) covariances, and what a domain names
    target:  what a property term predicts, (B, ...)
    weight:  (B,) weight of each datum in the loss, Σ w·l / Σ w; None means 1

    Raises InputError when the first axes differ.

    >>> batch = Batch(torch.zeros(4, 2), context={"condition": torch.ones(4, 1)})
    >>> len(batch), batch[:2].x.shape
    (4, torch.Size([2, 2]))
    """

    x: Fields
    context: Mapping[str, Tensor] = field(default_factory=dict)
    target: Tensor | None = None
    weight: Tensor | None = None

    def __post_init__(self) -> None:
        if self.context is None:
            object.__setattr__(self, "context", {})
        lengths = {name: tensor.shape[0] for name, tensor in self.tensors().items()}
        if len(set(lengths.values())) > 1:
            raise InputError(f"a batch needs one length along the first axis of each tensor; found {lengths}")

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by a flat name: ``x`` or ``x.NAME``, ``context.NAME``, ``target``, ``weight``."""
        named = {"x": self.x} if isinstance(self.x, Tensor) else {f"x.{k}": v for k, v in self.x.items()}
        named |= {f"context.{k}": v for k, v in self.context.items()}
        named |= {k: v for k in ("target", "weight") if (v := getattr(self, k)) is not None}
        return named

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Batch:
        """The inverse of ``tensors()``."""
        fields = {k[2:]: v for k, v in tensors.items() if k.startswith("x.")}
        context = {k[8:]: v for k, v in tensors.items() if k.startswith("context.")}
        return cls(fields or tensors["x"], context, tensors.get("target"), tensors.get("weight"))

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with ``function`` applied to every tensor."""
        return Batch.from_tensors({name: function(tensor) for name, tensor in self.tensors().items()})

    def __len__(self) -> int:
        return next(iter(self.tensors().values())).shape[0]

    def __getitem__(self, index: Any) -> Batch:
        if isinstance(index, int):
            index = slice(index, index + 1 or None)
        return self.map(lambda tensor: tensor[index])

    def to(self, *args: Any, **kwargs: Any) -> Batch:
        """Every tensor moved (``.to(device)``); a floating dtype changes floating tensors only."""
        dtype = next((a for a in (*args, *kwargs.values()) if isinstance(a, torch.dtype)), None)
        if dtype is None:
            return self.map(lambda tensor: tensor.to(*args, **kwargs))
        return self.map(lambda t: t.to(*args, **kwargs) if t.is_floating_point() else t)
