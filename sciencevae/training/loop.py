"""``fit``: the training loop, and the same loop for an ensemble of seeds."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sciencevae.data.batches import Batches, as_batches
from sciencevae.errors import InputError, Interrupted, RunError
from sciencevae.training.checkpoint import read_tensors, rng_state, set_rng_state, write_tensors
from sciencevae.training.history import History
from sciencevae.training.interrupts import Interrupts
from sciencevae.training.progress import Report, training_progress
from sciencevae.training.schedules import Constant, Schedule, WarmUpCosine
from sciencevae.training.settings import TrainingSettings
from sciencevae.training.step import Layout, Problem, Step
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO, Objective

__all__ = ["fit", "fit_ensemble"]

log = logging.getLogger("sciencevae")

#: "auto" compiles from this many steps on: compiling takes 3–13 s, which fewer steps do not win back
STEPS_WORTH_COMPILING = 3000
#: steps between readings of the loss, each of which waits for the device
STEPS_BETWEEN_READINGS = 50
#: rows of validation data evaluated at once
VALIDATION_ROWS = 2048
#: blocks of training data whose support, shape and missing values are checked before the first step
BLOCKS_CHECKED = 100


def fit(
    model: VAE,
    train: Any,
    objective: Objective | None = None,
    valid: Any = None,
    settings: TrainingSettings | None = None,
    run: str | Path | None = None,
    resume: bool = True,
    progress: bool | Report | None = None,
) -> History:
    """Train ``model`` in place, by default on the ELBO, and return what happened.

    train, valid: a tensor (N, ...), a Batch, a prepared xarray Dataset or store, or Batches. With validation
    data the model ends with the weights of its best validation objective.
    run: a folder for checkpoints. With ``resume`` a run that was killed goes on from the last one, bit for
    bit on a CPU with the same versions and threads; a finished one returns at once.
    progress: False for none, or a function (epoch, step, {part: value}); by default a bar or lines on stderr.

    Raises InputError for data that do not fit the model, RunError when the loss is no longer finite, and
    Interrupted after a SIGTERM, when the state is saved.
    """
    (history,) = _Loop([model], objective, train, valid, settings, run, resume, progress, None).run()
    return history


def fit_ensemble(
    build: Callable[[], VAE],
    train: Any,
    seeds: Sequence[int],
    objective: Objective | None = None,
    valid: Any = None,
    settings: TrainingSettings | None = None,
    run: str | Path | None = None,
    resume: bool = True,
    progress: bool | Report | None = None,
) -> tuple[list[VAE], list[History]]:
    """Train one model a seed in one vectorised step, and return them with their histories.

    ``build()`` is called once for each seed under ``torch.manual_seed(seed)``. The member of a seed sees the
    data in the order, and the noise, of ``fit`` with ``settings.seed`` equal to it, and stops by its own
    validation, so it is the model that ``fit`` would give up to rounding.
    """
    if len(set(seeds)) != len(seeds) or not seeds:
        raise InputError(f"an ensemble needs different seeds, at least one; found {list(seeds)}")
    models = []
    with torch.random.fork_rng():
        for seed in seeds:
            torch.manual_seed(seed)
            models.append(build())
    histories = _Loop(models, objective, train, valid, settings, run, resume, progress, list(seeds)).run()
    return models, histories


@dataclass
class _State:
    """All that a checkpoint holds. The vectors are (P,), in an ensemble (E, P)."""

    flat: Tensor
    first: Tensor
    second: Tensor
    average: Tensor | None
    best: Tensor
    buffers: dict[str, Tensor]
    epoch: int = 0
    step: int = 0  # in all
    sums: Tensor | None = None  # of the parts of the loss since the last row of the history
    count: int = 0
    finished: bool = False
    best_loss: list[float] = field(default_factory=list)
    bad_rounds: list[int] = field(default_factory=list)


class _Loop:
    """One training. ``seeds`` is None for a single model, which then has no leading axis of members."""

    def __init__(
        self,
        models: list[VAE],
        objective: Objective | None,
        train: Any,
        valid: Any,
        settings: TrainingSettings | None,
        run: str | Path | None,
        resume: bool,
        progress: bool | Report | None,
        seeds: list[int] | None,
    ) -> None:
        self.settings = settings = settings or TrainingSettings()
        self.device = _device(settings.device)
        self.models = [model.to(self.device) for model in models]
        self.objective = (objective or ELBO()).to(self.device)
        self.train, self.valid = as_batches(train), None if valid is None else as_batches(valid)
        if settings.patience is not None and valid is None:
            raise InputError("early stopping (patience) needs validation data: give valid=, or patience=None")
        if settings.batch_size > len(self.train):
            raise InputError(
                f"batch_size is {settings.batch_size}, and there are {len(self.train)} training data: "
                f"set batch_size to {len(self.train)} or less"
            )
        self.ensemble = seeds is not None
        self.seeds = seeds or [settings.seed]
        if self.ensemble and any(p.numel() for p in self.objective.parameters()):
            raise InputError(
                "an ensemble can't share an objective that has parameters: fit its members singly"
            )
        self.problems = [Problem(model, self.objective) for model in self.models]
        self.layout = Layout.of(self.problems[0])
        self.steps_per_epoch = math.ceil(len(self.train) / settings.batch_size)
        self.total = self.steps_per_epoch * settings.epochs
        rate: Schedule = Constant(settings.learning_rate)
        if settings.schedule == "cosine":
            rate = WarmUpCosine(settings.learning_rate, self.total, settings.warmup_steps)
        elif settings.warmup_steps:
            rate = _Rise(settings.learning_rate, settings.warmup_steps)
        self.schedules: dict[str, Schedule] = {"learning_rate": rate, **self.objective.schedules}
        names = ("correction1", "correction2", "average", *self.schedules)
        self.step = Step(self.problems[0], self.layout, settings, names, self.ensemble)
        self.run_folder = None if run is None else Path(run)
        self.resume, self.progress = resume, progress
        self.histories = [History() for _ in self.models]

    # ---- pieces ------------------------------------------------------------------------------------

    def _new_state(self) -> _State:
        vectors = [self.layout.pack(problem) for problem in self.problems]
        flat = torch.stack(vectors) if self.ensemble else vectors[0]
        buffers = self.step.buffers()
        if self.ensemble:
            buffers = {n: b.expand(len(self.models), *b.shape).clone() for n, b in buffers.items()}
        return _State(
            flat=flat,
            first=torch.zeros_like(flat),
            second=torch.zeros_like(flat),
            average=flat.clone() if self.settings.ema is not None else None,
            best=flat.clone(),
            buffers=buffers,
            best_loss=[math.inf] * len(self.models),
            bad_rounds=[0] * len(self.models),
        )

    def _noise(self, step: int, rows: int, tag: int = 0) -> Tensor | None:
        """ε (S, rows, D), a pure function of (seed, step); None for a posterior that draws its own."""
        model = self.models[0]
        if not getattr(model.encoder, "takes_noise", True):
            return None
        dtype = self.layout_dtype
        shape = (self.objective.samples, rows, model.dim)
        drawn = []
        for seed in self.seeds:
            self.generator.manual_seed((seed * 1_000_003 + step) * 4 + tag)
            drawn.append(torch.randn(shape, generator=self.generator, dtype=dtype))
        noise = torch.stack(drawn) if self.ensemble else drawn[0]
        return noise.to(self.device, non_blocking=True)

    def _epoch(self, epoch: int, start: int) -> Iterator[dict[str, Tensor]]:
        """The batches of an epoch from number ``start`` on, as named tensors."""
        size = self.settings.batch_size
        streams = [self.train.epoch(seed, epoch, size, start) for seed in self.seeds]
        if not self.ensemble:
            for batch in streams[0]:
                yield batch.to(self.device).tensors() if self.device.type != "cpu" else batch.tensors()
            return
        for batches in zip(*streams, strict=True):
            named = [batch.tensors() for batch in batches]
            yield {key: torch.stack([n[key] for n in named]).to(self.device) for key in named[0]}

    def _values(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """The scalars of a step, as the tensor that the step takes and by name."""
        beta1, beta2 = self.settings.betas
        scalars = {name: schedule(step) for name, schedule in self.schedules.items()}
        ema = self.settings.ema or 0.0
        values = (
            1 - beta1 ** (step + 1),
            1 - beta2 ** (step + 1),
            min(ema, (1 + step) / (10 + step)),  # a short memory at first: the start is no average
            *scalars.values(),
        )
        return torch.tensor(values, dtype=self.layout_dtype, device=self.device), scalars

    def _result(self, state: _State) -> Tensor:
        return state.average if state.average is not None else state.flat

    @torch.no_grad()
    def _validate(self, state: _State, data: Batches, rows: int = VALIDATION_ROWS) -> list[dict[str, float]]:
        """The parts of the objective over all of ``data``, with every schedule at its final value.

        The noise is the same at each validation: a change of the objective is then one of the model.
        """
        final = {k: torch.tensor(v, device=self.device) for k, v in self.objective.final_scalars().items()}
        for problem in self.problems:
            problem.eval()
        totals: dict[str, Tensor] = {}
        weight = 0.0
        flat = self._result(state)
        for number, block in enumerate(data.blocks(rows)):
            block = block.to(self.device)
            noise = self._noise(number, len(block), tag=1)
            share = float(len(block) if block.weight is None else block.weight.sum())
            for name, value in self.step.losses(flat, block.tensors(), noise, final).items():
                totals[name] = totals.get(name, 0.0) + share * value.double()
            weight += share
        for problem in self.problems:
            problem.train()
        columns = {name: torch.atleast_1d(total / weight).tolist() for name, total in totals.items()}
        return [{name: column[i] for name, column in columns.items()} for i in range(len(self.models))]

    # ---- checkpoints -------------------------------------------------------------------------------

    @property
    def _path(self) -> Path | None:
        return None if self.run_folder is None else self.run_folder / "checkpoint.safetensors"

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must share with the training that resumes from it."""
        settings = self.settings.model_dump(mode="json")
        for name in TrainingSettings.VOLATILE:
            settings.pop(name)
        return {
            **{f"training.{name}": value for name, value in settings.items()},
            "objective": f"{type(self.objective).__name__}({self.objective.schedules})",
            "parameters": [
                f"{n} {tuple(s)}" for n, s in zip(self.layout.names, self.layout.shapes, strict=True)
            ],
            "data": len(self.train),
            "seeds": self.seeds,
        }

    def _save(self, state: _State) -> None:
        if self._path is None:
            return
        tensors = {"flat": state.flat, "first": state.first, "second": state.second, "best": state.best}
        if state.average is not None:
            tensors["average"] = state.average
        if state.sums is not None:
            tensors["sums"] = state.sums
        tensors |= {f"buffer.{name}": buffer for name, buffer in state.buffers.items()}
        tensors |= {f"rng.{name}": s for name, s in rng_state().items()}
        plain = ("epoch", "step", "count", "finished", "best_loss", "bad_rounds")
        metadata = {
            "kind": "checkpoint",
            "identity": self._identity(),
            "environment": _environment(),
            "state": {name: getattr(state, name) for name in plain},
            "histories": [history.to_json() for history in self.histories],
        }
        write_tensors(self._path, tensors, metadata)

    def _load(self, state: _State) -> None:
        """Fill the state from the checkpoint, if there is one."""
        if self._path is None or not self.resume or not self._path.exists():
            return
        remedy = "delete it to train from the beginning"
        tensors, metadata = read_tensors(self._path, remedy)
        if metadata.get("kind") != "checkpoint":
            raise InputError(f"{self._path} is a finished model, not a checkpoint; {remedy}")
        found, wanted = metadata["identity"], self._identity()
        if differ := [name for name in wanted if found.get(name) != wanted[name]]:
            name = differ[0]
            detail = "" if name == "parameters" else f" ({found.get(name)} there, {wanted[name]} here)"
            raise InputError(
                f"{self._path} was written by a training with another {', '.join(differ)}{detail}: go on with "
                f"those settings, choose another folder, or {remedy}"
            )
        if metadata["environment"] != (here := _environment()):
            log.warning(
                "the checkpoint was written under %s, this is %s: the result may differ from an uninterrupted "
                "training in the last digits",
                metadata["environment"],
                here,
            )
        for name in ("flat", "first", "second", "best", "average"):
            if name in tensors:
                getattr(state, name).copy_(tensors[name])
        state.sums = tensors["sums"].to(self.device) if "sums" in tensors else None
        for name, buffer in state.buffers.items():
            buffer.copy_(tensors[f"buffer.{name}"])
        set_rng_state({n.removeprefix("rng."): t for n, t in tensors.items() if n.startswith("rng.")})
        for name, value in metadata["state"].items():
            setattr(state, name, value)
        self.histories = [History(**history) for history in metadata["histories"]]

    # ---- the loop ----------------------------------------------------------------------------------

    def run(self) -> list[History]:
        settings = self.settings
        self.layout_dtype = next(self.problems[0].parameters()).dtype
        self.generator = torch.Generator()  # on the CPU on every device: one stream of noise everywhere
        for block in islice(self.train.blocks(VALIDATION_ROWS), BLOCKS_CHECKED):
            self.models[0].check(block.to(self.device))
        with _threads(settings.threads), Interrupts() as interrupts:
            state = self._new_state()
            self._load(state)
            if not state.finished:
                self._train(state, interrupts)
            self._finish(state)
        return self.histories

    def _train(self, state: _State, interrupts: Interrupts) -> None:
        settings = self.settings
        begun, last_saved = time.monotonic(), time.monotonic()
        before = self.histories[0].seconds
        parts = self._part_names(state)
        self._maybe_compile()
        with training_progress(settings.epochs, self.total, self.progress) as report:
            while state.epoch < settings.epochs and not state.finished:
                start = state.step - state.epoch * self.steps_per_epoch
                for tensors in islice(self._epoch(state.epoch, start), self.steps_per_epoch - start):
                    values, scalars = self._values(state.step)
                    noise = self._noise(state.step, settings.batch_size)
                    losses = self._run_step(state, tensors, noise, values)
                    state.sums = losses if state.sums is None else state.sums + losses
                    state.step += 1
                    state.count += 1
                    if state.step % STEPS_BETWEEN_READINGS == 0:
                        means = self._means(state, parts)
                        report(state.epoch + 1, state.step, means[0])
                        if time.monotonic() - last_saved > settings.checkpoint_seconds:
                            interrupts.save = True
                    if interrupts.save or interrupts.stop:
                        self._set_seconds(before + time.monotonic() - begun, state)
                        self._means(state, parts)  # a state that is not finite is not saved over a good one
                        self._save(state)
                        last_saved, interrupts.save = time.monotonic(), False
                        if interrupts.stop:
                            where = (
                                "no folder was given: nothing is saved" if self._path is None else self._path
                            )
                            raise Interrupted(f"stopped by SIGTERM at step {state.step}; saved: {where}")
                state.epoch += 1
                self._set_seconds(before + time.monotonic() - begun, state)
                last = state.epoch == settings.epochs
                if state.epoch % settings.valid_every == 0 or last:
                    self._end_of_round(state, parts, scalars)
                    report(state.epoch, state.step, self._shown())
                if last and not state.finished:
                    state.finished = True
                    for history in self.histories:
                        history.stopped = history.stopped or "epochs"
        self._save(state)

    def _run_step(
        self, state: _State, tensors: dict[str, Tensor], noise: Tensor | None, values: Tensor
    ) -> Tensor:
        arguments = (
            state.flat,
            state.first,
            state.second,
            state.average,
            state.buffers,
            tensors,
            noise,
            values,
        )
        if self.histories[0].compiled and state.step == self.first_step:
            try:
                return self.step.run(*arguments)
            except Exception as error:
                if self.settings.compile is True:
                    raise RunError(
                        f"the step can't be compiled: {_first_line(error)}; set compile=False"
                    ) from error
                log.warning("the step runs uncompiled: %s", _first_line(error))
                self.step.run = self.step._step
                for history in self.histories:
                    history.compiled, history.why_not = False, _first_line(error)
        return self.step.run(*arguments)

    def _maybe_compile(self) -> None:
        wanted = self.settings.compile
        if wanted is True or (wanted == "auto" and self.total >= STEPS_WORTH_COMPILING):
            self.step.compile()
            for history in self.histories:
                history.compiled = True

    def _part_names(self, state: _State) -> list[str]:
        block = next(iter(self.train.blocks(min(2, len(self.train))))).to(self.device)
        final = {k: torch.tensor(v, device=self.device) for k, v in self.objective.final_scalars().items()}
        self.first_step = state.step
        with torch.no_grad(), torch.random.fork_rng():
            return list(
                self.step.losses(state.flat, block.tensors(), self._noise(0, len(block), tag=2), final)
            )

    def _means(self, state: _State, parts: list[str]) -> list[dict[str, float]]:
        """The means of the parts since the last row, by member; stops on a loss that is not finite."""
        assert state.sums is not None
        rows = (torch.atleast_2d(state.sums) / state.count).tolist()
        for row, seed in zip(rows, self.seeds, strict=True):
            if not math.isfinite(dict(zip(parts, row, strict=True))["loss"]):
                saved = "" if self._path is None else f" The last good state is in {self._path}."
                raise RunError(
                    f"the loss is no longer finite at step {state.step} (seed {seed}): lower learning_rate "
                    f"({self.settings.learning_rate}), set gradient_clip, or look for outliers in the data.{saved}"
                )
        return [dict(zip(parts, row, strict=True)) for row in rows]

    def _end_of_round(self, state: _State, parts: list[str], scalars: Mapping[str, float]) -> None:
        """A row of the history; with validation data the best weights are kept and patience counted."""
        train = self._means(state, parts)
        state.sums, state.count = None, 0
        valid = None if self.valid is None else self._validate(state, self.valid)
        for i, history in enumerate(self.histories):
            if history.stopped:
                continue
            row: dict[str, float] = {
                "epoch": state.epoch,
                "step": state.step,
                "seconds": history.seconds,
                **scalars,
            }
            row |= {f"train_{name}": value for name, value in train[i].items()}
            if valid is not None:
                row |= {f"valid_{name}": value for name, value in valid[i].items()}
                self._judge(state, i, history, valid[i]["loss"])
            history.rows.append(row)
        state.finished = all(history.stopped for history in self.histories)

    def _judge(self, state: _State, i: int, history: History, loss: float) -> None:
        if loss < state.best_loss[i]:
            state.best_loss[i], state.bad_rounds[i] = loss, 0
            history.best_epoch, history.best_loss = state.epoch, loss
            where = (i,) if self.ensemble else ()
            state.best[where] = self._result(state)[where]
            return
        state.bad_rounds[i] += 1
        if self.settings.patience is not None and state.bad_rounds[i] >= self.settings.patience:
            history.stopped = "patience"

    def _shown(self) -> dict[str, float]:
        """What progress shows at the end of a round: the newest row's losses."""
        row = self.histories[0].rows[-1]
        return {
            k.replace("train_", "").replace("valid_", "valid "): v
            for k, v in row.items()
            if "_" in k and k[:5] in ("train", "valid")
        }

    def _set_seconds(self, seconds: float, state: _State) -> None:
        for history in self.histories:
            if not history.stopped:
                history.seconds, history.steps = seconds, state.step

    def _finish(self, state: _State) -> None:
        """Put the result into the models: the best weights with validation data, else the last."""
        chosen = state.best if self.valid is not None else self._result(state)
        for i, problem in enumerate(self.problems):
            self.layout.unpack(chosen[i] if self.ensemble else chosen, problem)
            named = dict(problem.named_buffers())
            for name, buffer in state.buffers.items():
                named[name].copy_(buffer[i] if self.ensemble else buffer)
            problem.eval()


@dataclass(frozen=True)
class _Rise(Schedule):
    """From 0 to ``end`` over ``steps`` steps, the first step already above 0."""

    end: float
    steps: int

    def __call__(self, step: int) -> float:
        return self.end * min(1.0, (step + 1) / self.steps)

    @property
    def final(self) -> float:
        return self.end


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} is not here: {_first_line(error)}; use 'cpu' or 'auto'") from error
    return device


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _environment() -> dict[str, Any]:
    """What the last digits of a result depend on beside the settings."""
    return {"torch": torch.__version__, "threads": torch.get_num_threads()}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
