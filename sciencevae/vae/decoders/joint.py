"""The decoder of several named fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.distributions as td
from torch import Tensor, nn

from sciencevae.distributions import Joint as JointDistribution
from sciencevae.errors import InputError, did_you_mean
from sciencevae.networks.fields import by_name
from sciencevae.spec import recorded
from sciencevae.vae.context import Context
from sciencevae.vae.decoders.base import Decoder, network_rows

__all__ = ["Joint"]


@recorded
class Joint(Decoder):
    """p(x | z, c) = Π_f p_f(x_f | z, c) over the named fields of a mapping x; a field without data drops out.

    fields: a decoder a field. Without ``network`` each sees z; with it, a shared trunk, each sees what the trunk
    gives, (S·B, D) → (S·B, …), or of a trunk that gives a mapping the entry of its name; a head that has
    nothing to add to it is ``networks.Identity()``. ``conditional`` is about the trunk; each field has its own.

    seen: names of fields of x that the encoder reads and nothing is said of: p(label | z), q(z | picture), say, the
    variational information bottleneck (Alemi et al. 2017) for β in front of the KL.

    What a batch knows of one field is named after it: ``context["noise.NAME"]`` is the ``context["noise"]`` that
    the decoder of NAME sees, and likewise ``exposure.NAME`` and ``source.NAME``.

    >>> import torch
    >>> from sciencevae.networks import Perceptron
    >>> from sciencevae.vae.decoders import Gaussian, Poisson
    >>> joint = Joint({"spectrum": Gaussian(Perceptron(8, [], 50)), "counts": Poisson(Perceptron(8, [], 3))},
    ...               network=Perceptron(2, [16], 8))
    >>> {name: tuple(x.shape) for name, x in joint(torch.zeros(1, 5, 2)).sample().items()}
    {'spectrum': (1, 5, 50), 'counts': (1, 5, 3)}
    """

    network: nn.Module | None  # type: ignore[assignment]

    def __init__(
        self,
        fields: Mapping[str, Decoder],
        network: nn.Module | None = None,
        conditional: bool = False,
        seen: Sequence[str] = (),
    ) -> None:
        if conditional and network is None:
            raise InputError(
                "conditional=True of a Joint decoder is about its shared network, and it has none: "
                "build its fields with conditional=True"
            )
        super().__init__(network, conditional)  # type: ignore[arg-type]
        for name, decoder in fields.items():
            if isinstance(decoder, Joint):
                raise InputError(f"field {name!r} is a Joint decoder itself: name all fields in one Joint")
        self.fields, self.seen = by_name("a Joint decoder", fields), tuple(seen)
        if both := next((name for name in self.seen if name in fields), None):
            raise InputError(f"field {both!r} is described and said to be only seen: take it out of seen")

    def forward(self, z: Tensor, context: Context | None = None) -> td.Distribution:
        context = context or {}
        given = dict.fromkeys(self.fields, z)
        if self.network is not None:
            rows = network_rows(self.network, z, context, self.conditional)
            for name in self.fields:
                given[name] = _of(rows, name).unflatten(0, z.shape[:2])
        return JointDistribution(
            {
                name: decoder(given[name], self._context_of(name, context))
                for name, decoder in self.fields.items()
            },
            self.seen,
        )

    def _context_of(self, name: str, context: Context) -> Context:
        """The context that the decoder of one field sees."""
        own = {
            key.removesuffix(f".{name}"): value for key, value in context.items() if key.endswith(f".{name}")
        }
        # without a name it is the noise of no field in particular
        shared = {key: value for key, value in context.items() if key != "noise" or len(self.fields) == 1}
        return {**shared, **own}

    def check(self, x: Any, context: Context) -> None:
        for name, values in x.items():
            if name in self.seen:
                continue
            if name not in self.fields:
                raise InputError(
                    f"x has a field {name!r} that the Joint decoder does not describe"
                    f"{did_you_mean(name, self.fields)}; build it with a decoder for it, name it in seen, or "
                    "put what is only conditioned on into the context"
                )
            decoder: Any = self.fields[name]
            try:
                decoder.check(values, self._context_of(name, context))
            except InputError as error:
                raise InputError(f"field {name!r}: {error}") from None


def _of(features: Tensor | Mapping[str, Tensor], name: str) -> Tensor:
    """What a shared network gave for one field."""
    if isinstance(features, Tensor):
        return features
    if name not in features:
        raise InputError(
            f"the shared network of the Joint decoder gives no entry {name!r}{did_you_mean(name, features)}"
        )
    return features[name]
