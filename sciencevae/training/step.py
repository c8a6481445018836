"""One training step: gradients → update, over the parameters of model and objective as a dict of tensors.

Everything that reads a parameter runs inside one ``functional_call``; no distribution leaves it. The whole
step is one function of tensors, which changes parameters and moments in place: compiled as one graph where
every part allows it, and uncompiled the same code. On several ranks it is two, with a sum between them.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from sciencevae.batch import Batch
from sciencevae.errors import InputError
from sciencevae.training.settings import TrainingSettings
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import Objective

__all__ = ["Problem", "Step", "adamw", "trainable"]

Tensors = dict[str, Tensor]

_numbers = itertools.count()


class Problem(nn.Module):
    """Model and objective in one module, so that whatever reads a parameter does so in one functional call."""

    def __init__(self, model: VAE, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, tensors: Tensors, noise: Tensor, scalars: Mapping[str, Tensor]) -> Tensors:
        """Each part of the loss, Σ w·part / Σ w over the batch; minimised is ``loss``, and ``auxiliary`` along with
        it where there is one."""
        batch = Batch.from_tensors(tensors)
        loss = self.objective(self.model, batch, noise, scalars)
        weight = torch.ones_like(loss.per_datum) if batch.weight is None else batch.weight
        parts = {**loss.parts, "loss": loss.per_datum}
        if loss.auxiliary is not None:
            parts["auxiliary"] = loss.auxiliary
        # a batch of which no row counts has loss and gradient 0
        whole = weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)
        return {name: (weight * part).sum() / whole for name, part in parts.items()}


def trainable(problem: Problem) -> Tensors:
    """The parameters that are trained, by name; those with requires_grad=False stay as they are."""
    named = {name: p.detach() for name, p in problem.named_parameters() if p.requires_grad}
    if not named:
        raise InputError("the model has no parameter to train (all have requires_grad=False)")
    return named


def adamw(
    parameters: list[Tensor],
    first: list[Tensor],
    second: list[Tensor],
    gradients: list[Tensor],
    scalars: Mapping[str, Tensor],
    settings: TrainingSettings,
) -> None:
    """One step of AdamW (Loshchilov & Hutter 2019) on lists of tensors, in place, equal to ``torch.optim.AdamW``.

    m ← β₁ m + (1−β₁) g · v ← β₂ v + (1−β₂) g² · θ ← θ (1 − η λ) − η m̂ / (√v̂ + 10⁻⁸),
    m̂ = m / (1−β₁ᵗ), v̂ = v / (1−β₂ᵗ); η and the two bias corrections arrive as tensors in ``scalars``.
    """
    beta1, beta2 = settings.betas
    rate = scalars["learning_rate"]
    torch._foreach_lerp_(first, gradients, 1 - beta1)
    torch._foreach_mul_(second, beta2)
    torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
    scale = torch._foreach_sqrt(second)
    torch._foreach_div_(scale, scalars["correction2"].sqrt())
    torch._foreach_add_(scale, 1e-8)
    move = torch._foreach_div(first, scale)
    torch._foreach_mul_(move, rate / scalars["correction1"])
    torch._foreach_mul_(parameters, 1 - rate * settings.weight_decay)
    torch._foreach_sub_(parameters, move)


@contextlib.contextmanager
def _quiet_compiler() -> Iterator[None]:
    """Without the compiler's notes on how it calls a library, of which a user can make nothing."""
    logger = logging.getLogger("torch._inductor")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"torch\.")
            yield
    finally:
        logger.setLevel(level)


class Step:
    """The step of one problem, eager or compiled, for one member or an ensemble of them.

    ``run(θ, m, v, average, buffers, tensors, noise, values)`` changes the first five in place and returns the
    parts of the loss summed over the data, Σ w·part, in the order in which ``losses`` names them, and Σ w behind
    them, (k + 1,); values are the scalars in the order
    of ``scalar_names``. For an ensemble every tensor but these has a leading axis of members.

    On several ranks ``part(θ, buffers, tensors, noise, values, stop)`` gives one flat vector, to be summed over
    them, from which ``rest(θ, m, v, average, total, values)`` makes the step; such a step changes no buffers.
    """

    def __init__(
        self,
        problem: Problem,
        settings: TrainingSettings,
        scalar_names: Sequence[str],
        ensemble: bool,
    ) -> None:
        self.problem, self.settings, self.ensemble = problem, settings, ensemble
        self.scalar_names = tuple(scalar_names)
        self.stay_eager()

    def compile(self) -> None:
        """From here on run as compiled graphs; an error of the compiler is raised at the next call."""
        for name in ("run", "part", "rest"):
            self._compile(name)
        self.compiled = True

    def _compile(self, name: str) -> None:
        # A step checks no attribute of modules before it runs, only its tensors: those checks cost a quarter
        # of a millisecond, more than the step of a small model. Compiled code is kept by code object, so each
        # step gets a code object of its own: another model of the same shapes must not run this one's graph.
        eager = getattr(type(self), f"_{name}")
        code = eager.__code__.replace(co_name=f"{name}_{next(_numbers)}")
        own = types.MethodType(types.FunctionType(code, eager.__globals__), self)
        options: dict[str, Any] = {"guard_filter_fn": torch.compiler.keep_tensor_guards_unsafe}
        if next(self.problem.parameters()).device.type == "cpu":
            options["cpp_wrapper"] = True  # calls its kernels from C++: 0.2 ms less of Python a step
        compiled = torch.compile(own, fullgraph=True, dynamic=False, options=options)

        def first(*arguments: Any) -> Tensor:
            with _quiet_compiler():
                found = compiled(*arguments)
            setattr(self, name, compiled)
            return found

        setattr(self, name, first)

    def stay_eager(self) -> None:
        """Back to the uncompiled step."""
        self.run: Callable[..., Tensor] = self._run
        self.part: Callable[..., Tensor] = self._part
        self.rest: Callable[..., Tensor] = self._rest
        self.compiled = False

    def losses(
        self,
        parameters: Tensors,
        buffers: Tensors,
        tensors: Tensors,
        noise: Tensor,
        scalars: Mapping[str, Tensor],
    ) -> Tensors:
        """The parts of the loss, without a gradient; one batch for all members of an ensemble."""

        def one(parameters: Tensors, buffers: Tensors, noise: Tensor) -> Tensors:
            return functional_call(self.problem, {**parameters, **buffers}, (tensors, noise, scalars))

        if not self.ensemble:
            return one(parameters, buffers, noise)
        return vmap(one, randomness="different")(parameters, buffers, noise)

    @torch.no_grad()
    def probe(self, tensors: Tensors, noise: Tensor, scalars: Tensors) -> tuple[list[str], list[str]]:
        """The names of the parts of the loss, in the order in which a step gives them, and of the buffers that it
        changes: found by trying one forward pass of one member, on copies."""
        copies = {name: buffer.clone() for name, buffer in self.problem.named_buffers()}
        self.problem.train()
        with torch.random.fork_rng():
            losses = functional_call(self.problem, copies, (tensors, noise, scalars))
        return list(losses), [name for name, copy in copies.items() if copy._version]

    def _loss(
        self,
        parameters: Tensors,
        buffers: Tensors,
        tensors: Tensors,
        noise: Tensor,
        scalars: Mapping[str, Tensor],
    ) -> tuple[Tensor, tuple[Tensor, Tensors]]:
        # a captured tensor can't be changed in place under grad: normalisations change copies, handed on
        buffers = {name: buffer.clone() for name, buffer in buffers.items()}
        low = self.settings.precision == "bfloat16"
        device = next(iter(parameters.values())).device.type
        with torch.autocast(device, torch.bfloat16, enabled=low):
            losses = functional_call(self.problem, {**parameters, **buffers}, (tensors, noise, scalars))
        parts, weight = torch.stack([part.detach() for part in losses.values()]), tensors["weight"].sum()
        minimised = losses["loss"] + losses["auxiliary"] if "auxiliary" in losses else losses["loss"]
        return minimised, (torch.cat([parts * weight, weight[None]]), buffers)

    def _run(
        self,
        parameters: Tensors,
        first: Tensors,
        second: Tensors,
        average: Tensors | None,
        buffers: Tensors,
        tensors: Tensors,
        noise: Tensor,
        values: Tensor,
    ) -> Tensor:
        scalars = self._scalars(values)
        gradients, (parts, new_buffers) = self._gradients(parameters, buffers, tensors, noise, scalars)
        self._update(parameters, first, second, average, gradients, scalars)
        for name, buffer in new_buffers.items():
            buffers[name].copy_(buffer)
        return parts

    def _part(
        self,
        parameters: Tensors,
        buffers: Tensors,
        tensors: Tensors,
        noise: Tensor,
        values: Tensor,
        stop: Tensor,
    ) -> Tensor:
        """Σ w·∇ over the data of this rank, the sums of the parts and Σ w, and ``stop`` (1,), all in one vector."""
        gradients, (parts, _) = self._gradients(parameters, buffers, tensors, noise, self._scalars(values))
        return torch.cat([*(g.flatten() * parts[-1] for g in gradients.values()), parts, stop])

    def _rest(
        self,
        parameters: Tensors,
        first: Tensors,
        second: Tensors,
        average: Tensors | None,
        total: Tensor,
        values: Tensor,
    ) -> Tensor:
        """The step, from the sum of the ranks' vectors: the gradient is that of Σ w·l / Σ w over all their data."""
        sizes = [parameter.numel() for parameter in parameters.values()]
        *flat, parts, _ = total.split([*sizes, len(total) - sum(sizes) - 1, 1])
        weight = parts[-1].clamp(min=torch.finfo(parts.dtype).tiny)
        gradients = {
            name: (g / weight).view_as(parameter)
            for (name, parameter), g in zip(parameters.items(), flat, strict=True)
        }
        self._update(parameters, first, second, average, gradients, self._scalars(values))
        return parts

    def _scalars(self, values: Tensor) -> Tensors:
        return dict(zip(self.scalar_names, values.unbind(), strict=True))

    def _update(
        self,
        parameters: Tensors,
        first: Tensors,
        second: Tensors,
        average: Tensors | None,
        gradients: Tensors,
        scalars: Mapping[str, Tensor],
    ) -> None:
        """Clipping, AdamW and the running average, in place."""
        if self.settings.gradient_clip is not None:
            gradients = self._clipped(gradients, self.settings.gradient_clip)
        theta, m, v, g = ([d[name] for name in parameters] for d in (parameters, first, second, gradients))
        adamw(theta, m, v, g, scalars, self.settings)
        if average is not None:
            for name, parameter in parameters.items():
                average[name].lerp_(parameter, 1 - scalars["average"])

    def _gradients(
        self,
        parameters: Tensors,
        buffers: Tensors,
        tensors: Tensors,
        noise: Tensor,
        scalars: Mapping[str, Tensor],
    ) -> tuple[Tensors, tuple[Tensor, Tensors]]:
        """dL/dθ by name; the sums of the parts of the loss and the buffers as the forward pass leaves them."""
        if self.ensemble or torch.compiler.is_compiling():
            differentiate = grad_and_value(self._loss, has_aux=True)
            if self.ensemble:
                differentiate = vmap(differentiate, in_dims=(0, 0, 0, 0, None), randomness="different")
            gradients, (_, rest) = differentiate(parameters, buffers, tensors, noise, scalars)
            return gradients, rest
        # uncompiled, plain autograd does the same in less time
        leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
        with torch.enable_grad():
            loss, rest = self._loss(leaves, buffers, tensors, noise, scalars)
        found = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
        return dict(zip(leaves, found, strict=True)), rest

    def _clipped(self, gradients: Tensors, largest: float) -> Tensors:
        """Each member's gradient scaled to a norm of at most ``largest``, as torch's clip_grad_norm_ does."""
        start = 1 if self.ensemble else 0
        squares = [g.square().flatten(start).sum(-1) for g in gradients.values()]
        factor = (largest / (torch.stack(squares).sum(0).sqrt() + 1e-6)).clamp(max=1.0)
        return {
            name: g * factor.reshape(-1, *[1] * (g.dim() - 1)) if start else g * factor
            for name, g in gradients.items()
        }
