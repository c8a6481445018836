"""Several named fields at once, independent given the latents."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor

from sciencevae.batch import Fields
from sciencevae.errors import InputError, did_you_mean

__all__ = ["Joint"]


class Joint(td.Distribution):
    """p(x) = Π_f p_f(x_f) over the named fields of x; each distribution has the same batch shape.

    Values are mappings {name: (*batch, *event_f)}. Of a field that x does not bring nothing is known: it is
    missing, and its term drops out; so does that of a field in ``seen``, of which nothing is said.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own interface)

    def __init__(self, fields: Mapping[str, td.Distribution], seen: Collection[str] = ()) -> None:
        self.fields, self.seen = dict(fields), frozenset(seen)
        super().__init__(next(iter(self.fields.values())).batch_shape, validate_args=False)

    def log_prob_by_field(self, value: Fields) -> dict[str, Tensor]:
        """log p_f(x_f) of each field of ``value``."""
        if isinstance(value, Tensor):
            raise InputError(
                f"the decoder describes the fields {', '.join(self.fields)}, and x is one tensor: give a mapping"
            )
        value = {name: field for name, field in value.items() if name not in self.seen}
        if unknown := [name for name in value if name not in self.fields]:
            raise InputError(
                f"the decoder describes no field {unknown[0]!r}{did_you_mean(unknown[0], self.fields)}"
            )
        return {name: self.fields[name].log_prob(field) for name, field in value.items()}

    def log_prob(self, value: Fields) -> Tensor:
        return torch.stack(list(self.log_prob_by_field(value).values())).sum(0)

    @property
    def mean(self) -> Any:
        return {name: field.mean for name, field in self.fields.items()}

    @property
    def mode(self) -> Any:
        return {name: field.mode for name, field in self.fields.items()}

    @property
    def variance(self) -> Any:
        return {name: field.variance for name, field in self.fields.items()}

    def sample(self, sample_shape: Any = ()) -> Any:
        return {name: field.sample(sample_shape) for name, field in self.fields.items()}
