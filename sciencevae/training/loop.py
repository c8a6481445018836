"""``fit``: the training loop."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciencevae.batch import Batch
from sciencevae.data.batches import Batches, InMemory, as_batches
from sciencevae.data.store import open_store
from sciencevae.errors import InputError, Interrupted, RunError
from sciencevae.training.history import History
from sciencevae.training.interrupts import Interrupts
from sciencevae.training.parallel import RankLost, Ranks
from sciencevae.training.progress import Report, training_progress
from sciencevae.training.schedules import Constant, Schedule, WarmUp, WarmUpCosine
from sciencevae.training.settings import TrainingSettings
from sciencevae.training.state import STEPPED, Moment, State
from sciencevae.training.step import Problem, Step, trainable
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO, VQ, Objective

__all__ = ["Loop", "fit", "limited_threads"]

RunStep = Callable[[State, dict[str, Tensor], Tensor, Tensor], Tensor]

log = logging.getLogger("sciencevae")

#: "auto" compiles from this many steps on: compiling takes 7 s (22 s the first time on a machine), and a step of a
#: small network then takes 1 to 3 ms less (``benchmarks/training_step.py``)
STEPS_WORTH_COMPILING = 5000
#: steps between readings of the loss, each of which waits for the device
STEPS_BETWEEN_READINGS = 50
#: rows evaluated at once in checks and validation, at most
EVALUATION_ROWS = 2048
#: rows of the forward pass that shows what a step gives and changes
PROBED_ROWS = 8
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
    """Train ``model`` in place, by default on the ELBO (a VQVAE on VQ), and return what happened.

    train, valid: a tensor (N, ...), a Batch, a prepared xarray Dataset or store, or Batches; of prepared data
    that say how they are split, the rows of the splits train and valid. With validation data the model ends
    with the weights of its best validation objective.
    run: a folder for checkpoints. With ``resume`` a run that was killed goes on from the last one, bit for
    bit on a CPU with the same versions and threads; a finished one returns at once.
    progress: False for none, or a function (epoch, step, {part: value}); by default a bar or lines on stderr.

    Where torch.distributed has a process group (``training.parallel.joined`` starts one under torchrun or srun),
    all its ranks call ``fit`` alike and train one model: each takes its part of every batch, the gradients are
    summed, the first rank writes the checkpoints. What comes out is that of one rank, up to rounding.

    Raises InputError for data that do not fit the model, RunError when the loss is no longer finite, and
    Interrupted after a SIGTERM, when the state is saved.
    """
    return Loop([model], train, objective, valid, settings).run(run, resume, progress)[0]


class Loop:
    """The training of one model, or with ``seeds`` of an ensemble of models, which differ in nothing else.

    In an ensemble every tensor of the state and of a batch has a leading axis of members.
    """

    def __init__(
        self,
        models: list[VAE],
        train: Any,
        objective: Objective | None,
        valid: Any,
        settings: TrainingSettings | None,
        seeds: list[int] | None = None,
    ) -> None:
        self.settings = settings = settings or TrainingSettings()
        self.device = _device(settings.device)
        self.objective = (objective or (VQ() if models[0].coded else ELBO())).to(self.device)
        if settings.patience is not None and valid is None:
            raise InputError("early stopping (patience) needs validation data: give valid=, or patience=None")
        self.ensemble = seeds is not None
        self.seeds = seeds or [settings.seed]
        self.ranks = Ranks.here()
        if self.ranks.count > 1:
            self._check_ranks()
        self.problems = [Problem(model.to(self.device), self.objective) for model in models]
        self.dtype = next(self.problems[0].parameters()).dtype
        self.train = self._data(train, "train")
        self.valid = None if valid is None else self._data(valid, "valid")
        self.generator = torch.Generator()  # of the CPU whatever the device: one stream of noise everywhere
        self.steps_per_epoch = self.train.steps(settings.batch_size)
        self.epochs = settings.passes(len(self.train))
        self.total = self.steps_per_epoch * self.epochs
        self.schedules = {"learning_rate": _learning_rate(settings, self.total), **self.objective.schedules}
        names = ("correction1", "correction2", "average", *self.schedules)
        self.step = Step(self.problems[0], settings, names, self.ensemble)
        self.good: Moment  # at the last reading whose loss was finite
        #: of several ranks, how many asked to stop in the step before
        self.stopping = torch.zeros(1)

    def _check_ranks(self) -> None:
        """InputError for what is no sum over the data of a batch, which ranks could share."""
        name = type(self.objective).__name__
        if self.ensemble:
            raise InputError("an ensemble trains in one process: start it without torchrun or srun's tasks")
        if self.objective.couples:
            raise InputError(
                f"the {name} of a datum depends on the others of its batch, which {self.ranks.count} ranks would "
                "share out: train it on one rank"
            )

    def run(self, folder: str | Path | None, resume: bool, progress: bool | Report | None) -> list[History]:
        """Train to the end and put the result into the models."""
        path = None if folder is None else Path(folder) / "checkpoint.safetensors"
        with limited_threads(self.settings.threads), Interrupts() as interrupts:
            # a batch larger than the data, or one that the ranks cannot share, is refused here
            next(self.train.epoch(0, 0, self.settings.batch_size, 0, self.ranks.rank, self.ranks.count))
            for data in (self.train, self.valid):
                blocks = (
                    () if data is None else islice(data.blocks(data.at_once(EVALUATION_ROWS)), BLOCKS_CHECKED)
                )
                for block in blocks:
                    self.problems[0].model.check(block.to(self.device))
            state = self._new_state()
            if path is not None and resume and self.ranks.rank == 0 and path.exists():
                state.load(path, self._identity())
            if self.ranks.count > 1:
                self._share(state)
            if not state.finished:
                if self.ranks.rank:
                    progress = False
                    # dropout of its own
                    torch.manual_seed((self.settings.seed * 1009 + state.step) * 4099 + self.ranks.rank)
                with training_progress(self.epochs, self.total, progress) as report:
                    self._train(state, interrupts, path, report)
            self._finish(state)
        return state.histories

    def _data(self, data: Any, split: str) -> Batches:
        """Batches in the precision of the model; of prepared data those of one split."""
        if isinstance(data, str | Path):
            data = open_store(data)
        is_split = "split" in getattr(data, "coords", ())
        found = as_batches(data, split if is_split else None, dtype=self.dtype)
        floating = [t.dtype for t in found.example.tensors().values() if t.is_floating_point()]
        return found.to(self.dtype) if isinstance(found, InMemory) and {*floating} - {self.dtype} else found

    def _share(self, state: State) -> None:
        """Every rank has what the first one has: it alone reads a checkpoint, which others may see later."""
        state.plain = self.ranks.told(state.plain)
        if state.step and state.sums is None:
            state.sums = torch.zeros(len(self.parts) + 1, dtype=self.dtype, device=self.device)
        for tensor in (*state.tensors().values(), *([] if state.sums is None else [state.sums])):
            self.ranks.copied(tensor)

    # ---- what a step needs ---------------------------------------------------------------------------

    def _own_noise(self, step: int) -> Tensor:
        """The noise of a step for the rows of this rank: its part of what one rank would draw."""
        noise = self._noise(step, self.settings.batch_size)
        if self.ranks.count == 1:
            return noise
        model, own = self.problems[0].model, self.settings.batch_size // self.ranks.count
        shapes = zip(*(self.objective.noise_shape(model, rows) for rows in (1, 2)), strict=True)
        axis = next(axis for axis, (one, two) in enumerate(shapes) if one != two)
        return noise.narrow(axis, self.ranks.rank * own, own).contiguous()

    def _noise(self, step: int, rows: int, tag: int = 0) -> Tensor:
        """The noise of a step, ε (S, rows, D) as a rule: a pure function of (seed, step, tag)."""
        shape = self.objective.noise_shape(self.problems[0].model, rows)
        drawn = []
        for seed in self.seeds:
            self.generator.manual_seed((seed * 1_000_003 + step) * 4 + tag)
            drawn.append(torch.randn(shape, generator=self.generator, dtype=self.dtype))
        noise = torch.stack(drawn) if self.ensemble else drawn[0]
        return noise.to(self.device, non_blocking=True)

    def _epoch(self, epoch: int, start: int) -> Iterator[dict[str, Tensor]]:
        """The batches of an epoch from number ``start`` on, as named tensors."""
        rank, count = self.ranks.rank, self.ranks.count
        streams = [
            self.train.epoch(seed, epoch, self.settings.batch_size, start, rank, count) for seed in self.seeds
        ]
        if not self.ensemble:
            for batch in streams[0]:
                yield self._here(batch.tensors())
            return
        for batches in zip(*streams, strict=True):
            named = [batch.tensors() for batch in batches]
            yield self._here({name: torch.stack([tensors[name] for tensors in named]) for name in named[0]})

    def _here(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.device.type == "cpu":
            return tensors
        return {name: tensor.to(self.device, non_blocking=True) for name, tensor in tensors.items()}

    def _scheduled(self, step: int) -> dict[str, float]:
        return {name: schedule(step) for name, schedule in self.schedules.items()}

    def _values(self, step: int) -> Tensor:
        """The scalars of a step in the order in which the step names them."""
        beta1, beta2 = self.settings.betas
        # the average has a short memory at first: the random start is no part of it
        average = min(self.settings.ema or 0.0, (1 + step) / (10 + step))
        values = (1 - beta1 ** (step + 1), 1 - beta2 ** (step + 1), average, *self._scheduled(step).values())
        return torch.tensor(values, dtype=self.dtype, device=self.device)

    def _final(self) -> dict[str, Tensor]:
        """Every schedule of the objective at its end, as a model is judged."""
        return {
            name: torch.tensor(value, device=self.device)
            for name, value in self.objective.final_scalars().items()
        }

    # ---- the loop ------------------------------------------------------------------------------------

    def _new_state(self) -> State:
        self.parts, buffers = self._probe()
        if buffers and self.ranks.count > 1:
            raise InputError(
                f"a step changes {next(iter(buffers))}, a statistic of its batch, which {self.ranks.count} ranks "
                "would share out: train on one rank, or build the model without it"
            )
        if self.ensemble:
            members = [trainable(problem) for problem in self.problems]
            parameters = {name: torch.stack([member[name] for member in members]) for name in members[0]}
            buffers = {n: b.expand(len(self.seeds), *b.shape).clone() for n, b in buffers.items()}
        else:
            # clones, so that a training that ends by an error leaves the model as it was
            parameters = {name: p.clone() for name, p in trainable(self.problems[0]).items()}
            buffers = {name: buffer.clone() for name, buffer in buffers.items()}
        return State.new(parameters, buffers, self.settings.ema is not None, len(self.seeds))

    def _probe(self) -> tuple[list[str], dict[str, Tensor]]:
        """The names of the parts of the loss, and the buffers that steps change.

        InputError where members of an ensemble differ in what stays as it is.
        """
        block = next(self.train.blocks(PROBED_ROWS)).to(self.device)
        noise = self._noise(0, len(block), tag=2)
        try:
            parts, names = self.step.probe(
                block.tensors(), noise[0] if self.ensemble else noise, self._final()
            )
        except (RunError, torch.OutOfMemoryError):
            raise
        except RuntimeError as error:  # the model takes these data: that was checked before
            raise InputError(
                f"the objective {type(self.objective).__name__} does not fit this model and these data "
                f"({str(error).splitlines()[0]}): look at its terms and their networks: the head of a Property "
                "takes the posterior mean, (B, D), or (B, D, *grid) of codes"
            ) from error
        first, *others = [self._untrained(problem, names) for problem in self.problems]
        for other, seed in zip(others, self.seeds[1:], strict=True):
            for name, tensor in first.items():
                if not torch.equal(tensor, other[name]):
                    raise InputError(
                        f"the members of an ensemble share what is not trained, and {name} of seed {seed} differs "
                        f"from that of seed {self.seeds[0]}: draw it from a generator of its own, or fit singly"
                    )
        return parts, {name: buffer for name, buffer in self.problems[0].named_buffers() if name in names}

    @staticmethod
    def _untrained(problem: Problem, changing: list[str]) -> dict[str, Tensor]:
        fixed = {name: p for name, p in problem.named_parameters() if not p.requires_grad}
        return fixed | {name: b for name, b in problem.named_buffers() if name not in changing}

    def _train(self, state: State, interrupts: Interrupts, path: Path | None, report: Report) -> None:
        self.problems[0].train()
        run_step = self._first_step(state)
        for history in state.histories:
            history.device = _device_name(self.device)
        self.good = state.moment()
        try:
            self._rounds(state, run_step, interrupts, path, report)
        except _NotFinite:
            raise self._lost(state, run_step, path) from None
        self._save(state, path)

    def _save(self, state: State, path: Path | None) -> None:
        """Write the checkpoint, on the first rank: all have the same."""
        if path is not None and self.ranks.rank == 0:
            state.save(path, self._identity())

    def _rounds(
        self, state: State, run_step: RunStep, interrupts: Interrupts, path: Path | None, report: Report
    ) -> None:
        settings = self.settings
        begun = saved = time.monotonic()
        before = state.histories[0].seconds

        def keep_time() -> None:
            for history in state.histories:
                if not history.stopped:
                    history.seconds, history.steps = before + time.monotonic() - begun, state.step

        while not state.finished:
            start = state.step - state.epoch * self.steps_per_epoch
            for tensors in self._epoch(state.epoch, start):
                noise = self._own_noise(state.step)
                asked = self.stopping
                self.stopping = torch.full_like(asked, interrupts.stop)
                try:
                    losses = run_step(state, tensors, noise, self._values(state.step))
                except RankLost as lost:  # before anything of this step was changed
                    keep_time()
                    self._save(state, path)
                    raise RankLost(f"stopped at step {state.step} of {self.total}: {lost}") from lost
                state.sums = losses if state.sums is None else state.sums + losses
                state.step += 1
                if state.step % STEPS_BETWEEN_READINGS == 0:
                    report(state.epoch + 1, state.step, self._means(state)[0])
                    self.good = state.moment()
                    interrupts.save |= time.monotonic() - saved > settings.checkpoint_seconds
                # ranks stop at the same step, by what all said in the one before: looking at this one's would
                # wait for the device
                stop = interrupts.stop if self.ranks.count == 1 else bool(asked > 0)
                # a state that is not finite is not saved over a good one, and ranks find that out together
                read = self.ranks.count == 1 or state.step % STEPS_BETWEEN_READINGS == 0
                if (interrupts.save and read) or stop:
                    keep_time()
                    self._means(state)
                    self._save(state, path)
                    if stop:
                        self.ranks.told(None)  # the first has saved: srun may end the others, and it
                        where = f"saved in {path}" if path else "nothing is saved (no run folder was given)"
                        raise Interrupted(f"stopped by SIGTERM at step {state.step} of {self.total}; {where}")
                    saved, interrupts.save = time.monotonic(), False
            for tensor in state.tensors(STEPPED).values():
                self.ranks.copied(tensor)  # nodes of several kinds may round differently
            state.epoch += 1
            keep_time()
            if state.epoch % settings.valid_every == 0 or state.epoch == self.epochs:
                self._end_round(state, self._means(state))
                self.good = state.moment()
                report(state.epoch, state.step, _shown(state.histories[0].rows[-1]))

    def _first_step(self, state: State) -> RunStep:
        """The function that runs a step; compiled, where that is wanted and possible."""

        def run_step(state: State, tensors: dict[str, Tensor], noise: Tensor, values: Tensor) -> Tensor:
            own = (state.parameters, state.first, state.second, state.average)
            if self.ranks.count == 1:
                return self.step.run(*own, state.buffers, tensors, noise, values)
            stop = self.stopping.to(values)
            total = self.step.part(state.parameters, state.buffers, tensors, noise, values, stop)
            self.stopping = self.ranks.add(total)[-1:]
            return self.step.rest(*own, total, values)

        wanted = self.settings.compile
        worth = self.total >= STEPS_WORTH_COMPILING and not any(
            getattr(part, "unrolls", False) for problem in self.problems for part in problem.modules()
        )
        if wanted is False or (wanted == "auto" and not worth):
            return run_step
        self.step.compile()
        for history in state.histories:
            history.compiled = True

        def compiled(state: State, tensors: dict[str, Tensor], noise: Tensor, values: Tensor) -> Tensor:
            try:
                return run_step(state, tensors, noise, values)
            except RankLost:
                raise
            except Exception as error:
                # the vectors are only written at the end of a step: it can be run again uncompiled
                if wanted is True or not self.step.compiled:
                    raise
                reason = _first_line(error)
                log.warning("the training step runs uncompiled: %s", reason)
                self.step.stay_eager()
                for history in state.histories:
                    history.compiled, history.why_not = False, reason
                return run_step(state, tensors, noise, values)

        return compiled

    def _means(self, state: State) -> list[dict[str, float]]:
        """The means of the parts since the last row, by member; _NotFinite for a loss that is not finite."""
        assert state.sums is not None
        sums = torch.atleast_2d(state.sums)
        rows = (sums[:, :-1] / sums[:, -1:]).tolist()
        means = [dict(zip(self.parts, row, strict=True)) for row in rows]
        if not all(math.isfinite(mean["loss"]) for mean in means):
            raise _NotFinite
        return means

    def _lost(self, state: State, run_step: RunStep, path: Path | None) -> RunError:
        """Repeats the steps since the last good reading up to the first bad one, saves the state before that one,
        and says which data it saw."""
        stop = state.step
        state.go_back(self.good)
        while state.step < stop:
            for tensors in self._epoch(state.epoch, state.step - state.epoch * self.steps_per_epoch):
                before = state.moment()
                noise = self._own_noise(state.step)
                losses = torch.atleast_2d(run_step(state, tensors, noise, self._values(state.step)))
                bad = [not bool(torch.isfinite(row).all()) for row in losses]
                for parameter in state.parameters.values():
                    members = parameter if self.ensemble else parameter[None]
                    bad = [b or not bool(torch.isfinite(m).all()) for b, m in zip(bad, members, strict=True)]
                if any(bad):
                    state.go_back(before)
                    return self._bad_step(state, tensors, noise, bad.index(True), path)
                state.step += 1
            state.epoch += 1
        return RunError(
            f"the loss was not finite by step {stop}, and is when its steps are repeated: start again"
        )

    def _bad_step(
        self, state: State, tensors: dict[str, Tensor], noise: Tensor, i: int, path: Path | None
    ) -> RunError:
        """``state`` is that before the step, i the member."""
        member = self._member(i)
        batch = Batch.from_tensors({name: tensor[member] for name, tensor in tensors.items()})
        scalars = dict(zip(self.step.scalar_names, self._values(state.step).unbind(), strict=True))
        per_datum = self._per_datum(state.parameters, state, i, batch, noise[member], scalars)
        size = self.settings.batch_size // self.ranks.count
        start = (state.step - state.epoch * self.steps_per_epoch) * self.settings.batch_size
        start = min(start + self.ranks.rank * size, len(self.train))
        order = self.train.order(self.seeds[i], state.epoch)
        # of a last batch that is not full, a rank may have none
        rows = order.between(start, start + size) if start < len(self.train) else np.empty(0, np.int64)
        found = rows[~torch.isfinite(per_datum[: len(rows)]).cpu().numpy()]
        rows, found = (self.ranks.gathered(some, size) for some in (rows, found))
        which = (
            f"that of {len(found)} of the {len(rows)} data of its batch is not: {self.train.named(found)}"
            if len(found)
            else f"its gradient is not. Its batch: {self.train.named(rows)}"
        )
        kept = ""
        if path is not None and state.step:
            self._save(state, path)
            kept = f". The state before this step is saved in {path}"
        return RunError(
            f"the loss is no longer finite from step {state.step + 1} (epoch {state.epoch + 1}, seed "
            f"{self.seeds[i]}): {which}. Look for outliers in them, lower learning_rate "
            f"({self.settings.learning_rate:g}) or set gradient_clip{kept}"
        )

    @torch.no_grad()
    def _per_datum(
        self,
        parameters: dict[str, Tensor],
        state: State,
        i: int,
        batch: Batch,
        noise: Tensor,
        scalars: Mapping[str, Tensor],
    ) -> Tensor:
        """The loss of each datum for member i, in the mode that the model is in."""
        problem = copy.deepcopy(self.problems[0])
        self._put({**parameters, **state.buffers}, problem, i)
        with torch.random.fork_rng():
            return problem.objective(problem.model, batch, noise, scalars).per_datum

    def _bad_validation(self, state: State, i: int) -> str:
        """The validation data whose loss is not finite, of the first block that has any."""
        assert self.valid is not None
        self.problems[0].eval()
        for number, block in enumerate(self.valid.blocks(self.valid.at_once(EVALUATION_ROWS))):
            block = block.to(self.device)
            noise = self._noise(number, len(block), tag=1)[self._member(i)]
            loss = self._per_datum(state.result, state, i, block, noise, self._final())
            if not bool(torch.isfinite(loss).all()):
                rows = np.flatnonzero(~torch.isfinite(loss).cpu().numpy())
                return self.valid.named(number * self.valid.at_once(EVALUATION_ROWS) + rows)
        return "none when looked at one by one"

    @torch.no_grad()
    def _validate(self, state: State) -> list[dict[str, float]]:
        """The parts of the objective over the validation data, by member.

        The noise is the same at each validation: a change of the objective is then one of the model.
        """
        assert self.valid is not None
        self.problems[0].eval()
        members = (len(self.seeds),) if self.ensemble else ()
        sums = torch.zeros(len(self.parts) + 1, *members, dtype=torch.float64, device=self.device)
        for number, block in enumerate(self.valid.blocks(self.valid.at_once(EVALUATION_ROWS))):
            if number % self.ranks.count != self.ranks.rank:
                continue
            block = block.to(self.device)
            noise = self._noise(number, len(block), tag=1)
            share = float(len(block) if block.weight is None else block.weight.sum())
            if share == 0:  # rows that do not count have no mean
                continue
            losses = self._losses(state.result, state, block, noise)
            sums[:-1] += share * torch.stack([losses[name] for name in self.parts]).double()
            sums[-1] += share
        self.problems[0].train()
        self.ranks.add(sums)
        means = sums[:-1] / sums[-1]
        rows = (means.T if self.ensemble else means[None]).tolist()
        return [dict(zip(self.parts, row, strict=True)) for row in rows]

    def _losses(
        self, parameters: dict[str, Tensor], state: State, block: Batch, noise: Tensor
    ) -> dict[str, Tensor]:
        return self.step.losses(parameters, state.buffers, block.tensors(), noise, self._final())

    def _end_round(self, state: State, train: list[dict[str, float]]) -> None:
        """A row of the history; with validation data the best weights are kept and patience is counted."""
        state.sums = None
        valid = None if self.valid is None else self._validate(state)
        for i, history in enumerate(state.histories):
            if history.stopped:
                continue
            row = {"epoch": state.epoch, "step": state.step, "seconds": history.seconds}
            row |= self._scheduled(state.step - 1)  # of the last step done
            row |= {f"train_{name}": value for name, value in train[i].items()}
            if valid is not None:
                if not math.isfinite(valid[i]["loss"]):
                    raise RunError(
                        f"the validation loss is not finite after epoch {state.epoch} (seed {self.seeds[i]}): "
                        f"lower learning_rate ({self.settings.learning_rate:g}), or look for outliers in the "
                        f"validation data: {self._bad_validation(state, i)}"
                    )
                row |= {f"valid_{name}": value for name, value in valid[i].items()}
                self._judge(state, i, valid[i]["loss"])
            history.rows.append(row)
            if state.epoch == self.epochs:
                history.stopped = history.stopped or "epochs"
        state.finished = all(history.stopped for history in state.histories)

    def _judge(self, state: State, i: int, loss: float) -> None:
        history = state.histories[i]
        if loss < state.best_loss[i]:
            state.best_loss[i], state.bad_rounds[i] = loss, 0
            history.best_epoch, history.best_loss = state.epoch, loss
            member = self._member(i)
            for name, best in state.best.items():
                best[member] = state.result[name][member]
            for name, buffer in state.best_buffers.items():
                buffer[member] = state.buffers[name][member]
            return
        state.bad_rounds[i] += 1
        if self.settings.patience is not None and state.bad_rounds[i] >= self.settings.patience:
            history.stopped = "patience"

    def _finish(self, state: State) -> None:
        """Put the result into the models: the weights of the best validation, else the last."""
        if self.valid is None:
            chosen = {**state.result, **state.buffers}
        else:
            chosen = {**state.best, **state.best_buffers}
        for i, problem in enumerate(self.problems):
            self._put(chosen, problem, i)
            problem.eval()

    def _member(self, i: int) -> tuple[int, ...]:
        """The index of member i in a tensor of the state or of a batch."""
        return (i,) if self.ensemble else ()

    def _put(self, tensors: Mapping[str, Tensor], problem: Problem, i: int) -> None:
        """Those of member i, by the names of parameters and buffers, into the problem."""
        named = {**dict(problem.named_parameters()), **dict(problem.named_buffers())}
        for name, tensor in tensors.items():
            named[name].data.copy_(tensor[self._member(i)])

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must share with the training that goes on from it."""
        settings = self.settings.model_dump(mode="json", exclude=set(TrainingSettings.VOLATILE))
        return {
            "parameters": [f"{name} {tuple(p.shape)}" for name, p in trainable(self.problems[0]).items()],
            "objective": f"{type(self.objective).__name__} {self.objective.schedules} {_plain(self.objective)}",
            "number of training data": len(self.train),
            "first training data": _digest(self.train.example),
            "seeds": self.seeds,
            **{f"training.{name}": value for name, value in settings.items()},
        }


class _NotFinite(Exception):
    """A reading found a loss that is not finite."""


def _plain(module: torch.nn.Module) -> dict[str, Any]:
    """The numbers and words that a module keeps beside its tensors."""
    kept = {name: value for name, value in vars(module).items() if isinstance(value, int | float | str)}
    return {name: value for name, value in kept.items() if name != "training"}


def _digest(batch: Batch) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(batch.tensors().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _learning_rate(settings: TrainingSettings, total: int) -> Schedule:
    if settings.schedule == "cosine":
        return WarmUpCosine(settings.learning_rate, total, settings.warmup_steps)
    if settings.warmup_steps:
        first = settings.learning_rate / settings.warmup_steps  # a first step at 0 would change nothing
        return WarmUp(settings.learning_rate, settings.warmup_steps, start=first)
    return Constant(settings.learning_rate)


def _shown(row: Mapping[str, float]) -> dict[str, float]:
    """What progress shows at the end of a round: the losses, those of validation with their own name."""
    train = {k.removeprefix("train_"): v for k, v in row.items() if k.startswith("train_")}
    return train | {k.replace("_", " ", 1): v for k, v in row.items() if k.startswith("valid_")}


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} is not here: {_first_line(error)}; use 'cpu' or 'auto'") from error
    return device


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@contextlib.contextmanager
def limited_threads(count: int | None) -> Iterator[None]:
    """Inside, torch computes with so many threads; None: as many as it does."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
