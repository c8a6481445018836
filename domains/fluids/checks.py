"""What every solver asks of its state, so that a run stops where it went wrong and says what to do."""

from __future__ import annotations

from torch import Tensor

from sciencevae.errors import RunError

__all__ = ["check_state"]


def check_state(state: Tensor, cells: Tensor, most: float, step: int, dt_s: float) -> None:
    """Stop a run whose ``state`` (B, …) is not finite, or whose flow crosses too many ``cells`` (B,) in a step.

    Raises RunError naming the run, the step, its time and a smaller time step.
    """
    finite = state.flatten(1).isfinite().all(1) if state.ndim > 1 else state.isfinite()
    if not finite.all():
        row = int((~finite).nonzero()[0])
        raise RunError(
            f"run {row} is no longer finite at step {step} (t = {step * dt_s:g} s): the time step "
            f"{dt_s:g} s is too long for this flow; halve it, or raise the viscosity where there is one"
        )
    fastest = int(cells.argmax())
    if float(cells[fastest]) > most:
        raise RunError(
            f"run {fastest} crosses {float(cells[fastest]):.2g} cells in a step at step {step} "
            f"(t = {step * dt_s:g} s), at most {most:g} may be: take a time step of "
            f"{dt_s * most / float(cells[fastest]) / 1.5:.2g} s or less"
        )
