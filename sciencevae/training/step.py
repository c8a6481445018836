"""One training step: gradients → update, over all parameters as one flat vector.

The parameters of model and objective lie in one vector θ (P,), cut into views for a ``functional_call``. So
clipping is one norm, AdamW a few operations, an all-reduce one message, a checkpoint one tensor, and several
seeds one more axis. The two functions are compiled as one graph where every part allows it; uncompiled it is
the same code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from sciencevae.batch import Batch
from sciencevae.errors import InputError
from sciencevae.training.settings import TrainingSettings
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import Objective

__all__ = ["Layout", "Problem", "Step", "adamw"]

Tensors = Mapping[str, Tensor]


class Problem(nn.Module):
    """Model and objective in one module, so that whatever reads a parameter does so in one functional call."""

    def __init__(self, model: VAE, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, tensors: Tensors, noise: Tensor | None, scalars: Tensors) -> dict[str, Tensor]:
        """Each part of the loss, Σ w·part / Σ w over the batch; ``loss`` is what is minimised."""
        batch = Batch.from_tensors(tensors)
        loss = self.objective(self.model, batch, noise, scalars)
        weight = torch.ones_like(loss.per_datum) if batch.weight is None else batch.weight
        parts = {**loss.parts, "loss": loss.per_datum}
        return {name: (weight * part).sum() / weight.sum() for name, part in parts.items()}


@dataclass(frozen=True)
class Layout:
    """Where each parameter lies in the flat vector."""

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    @classmethod
    def of(cls, module: nn.Module) -> Layout:
        """The layout of the parameters that are trained; those with requires_grad=False stay as they are."""
        named = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if not named:
            raise InputError("the model has no parameter to train (all have requires_grad=False)")
        if len(kinds := {(p.dtype, p.device) for p in named.values()}) > 1:
            raise InputError(f"all parameters need one dtype and device; found {sorted(map(str, kinds))}")
        return cls(tuple(named), tuple(p.shape for p in named.values()))

    def pack(self, module: nn.Module) -> Tensor:
        """The parameters as one new vector (P,)."""
        named = dict(module.named_parameters())
        return torch.cat([named[name].detach().reshape(-1) for name in self.names])

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Each parameter as a view of the vector."""
        pieces = flat.split([math.prod(shape) for shape in self.shapes])
        return {n: p.view(shape) for n, p, shape in zip(self.names, pieces, self.shapes, strict=True)}

    @torch.no_grad()
    def unpack(self, flat: Tensor, module: nn.Module) -> None:
        """Write the vector into the module's parameters."""
        named = dict(module.named_parameters())
        for name, view in self.views(flat).items():
            named[name].copy_(view)


def adamw(
    flat: Tensor,
    first: Tensor,
    second: Tensor,
    gradient: Tensor,
    scalars: Tensors,
    settings: TrainingSettings,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of AdamW (Loshchilov & Hutter 2019), equal to ``torch.optim.AdamW``.

    m ← β₁ m + (1−β₁) g · v ← β₂ v + (1−β₂) g² · θ ← θ (1 − η λ) − η m̂ / (√v̂ + 10⁻⁸),
    m̂ = m / (1−β₁ᵗ), v̂ = v / (1−β₂ᵗ); η and the two bias corrections arrive as tensors in ``scalars``.
    """
    beta1, beta2 = settings.betas
    rate = scalars["learning_rate"]
    first = first + (1 - beta1) * (gradient - first)
    second = beta2 * second + (1 - beta2) * gradient.square()
    move = first / scalars["correction1"] / (second.sqrt() / scalars["correction2"].sqrt() + 1e-8)
    return flat * (1 - rate * settings.weight_decay) - rate * move, first, second


class Step:
    """The step of one problem, eager or compiled, for one member or an ensemble of them.

    ``run(θ, m, v, average, buffers, tensors, noise, values)`` changes the vectors and buffers in place and
    returns the parts of the loss, (k,), in the order in which ``losses`` names them; values are the scalars in
    the order of ``scalar_names``. For an ensemble every tensor but these has a leading axis of members.
    """

    def __init__(
        self,
        problem: Problem,
        layout: Layout,
        settings: TrainingSettings,
        scalar_names: Sequence[str],
        ensemble: bool,
    ) -> None:
        self.problem, self.layout, self.settings, self.ensemble = problem, layout, settings, ensemble
        self.scalar_names = tuple(scalar_names)
        self.run: Callable[..., Tensor] = self._step
        self._mutable = {n for n, b in problem.named_buffers() if n.rpartition(".")[2] in RUNNING_STATISTICS}

    def compile(self) -> None:
        """From here on run the step as one compiled graph; an error of the compiler is raised at the next call."""
        self.run = torch.compile(self._step, fullgraph=True, dynamic=False)

    def losses(
        self, flat: Tensor, tensors: Tensors, noise: Tensor | None, scalars: Tensors
    ) -> dict[str, Tensor]:
        """The parts of the loss at parameters θ, without a gradient: what validation reads."""

        def one(flat: Tensor, noise: Tensor | None) -> dict[str, Tensor]:
            return functional_call(self.problem, self.layout.views(flat), (tensors, noise, scalars))

        if not self.ensemble:
            return one(flat, noise)
        return vmap(one, in_dims=(0, None if noise is None else 0), randomness="different")(flat, noise)

    def _loss(
        self,
        flat: Tensor,
        buffers: dict[str, Tensor],
        tensors: Tensors,
        noise: Tensor | None,
        scalars: Tensors,
    ) -> tuple[Tensor, tuple[Tensor, dict[str, Tensor]]]:
        buffers = {name: buffer.clone() for name, buffer in buffers.items()}
        with torch.autocast(flat.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16"):
            losses = functional_call(
                self.problem, {**self.layout.views(flat), **buffers}, (tensors, noise, scalars)
            )
        return losses["loss"], (torch.stack([part.detach() for part in losses.values()]), buffers)

    def _step(
        self,
        flat: Tensor,
        first: Tensor,
        second: Tensor,
        average: Tensor | None,
        buffers: dict[str, Tensor],
        tensors: Tensors,
        noise: Tensor | None,
        values: Tensor,
    ) -> Tensor:
        scalars = dict(zip(self.scalar_names, values.unbind(), strict=True))
        gradients = grad_and_value(self._loss, has_aux=True)
        if self.ensemble:
            over = (0, 0, 0, None if noise is None else 0, None)
            gradients = vmap(gradients, in_dims=over, randomness="different")
        gradient, (_, (parts, new_buffers)) = gradients(flat, buffers, tensors, noise, scalars)
        if (largest := self.settings.gradient_clip) is not None:
            norm = gradient.norm(dim=-1, keepdim=True)
            gradient = gradient * (largest / (norm + 1e-6)).clamp(max=1.0)
        new_flat, new_first, new_second = adamw(flat, first, second, gradient, scalars, self.settings)
        flat.copy_(new_flat)
        first.copy_(new_first)
        second.copy_(new_second)
        if average is not None:
            average.copy_(average + (1 - scalars["average"]) * (new_flat - average))
        for name, buffer in new_buffers.items():
            buffers[name].copy_(buffer)
        return parts

    def buffers(self) -> dict[str, Tensor]:
        """The buffers that training changes (the running statistics of batch normalisation)."""
        return {n: b.detach() for n, b in self.problem.named_buffers() if n in self._mutable}


RUNNING_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
