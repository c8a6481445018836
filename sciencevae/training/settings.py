"""What can be set about training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sciencevae.errors import InputError

__all__ = ["TrainingSettings"]


class TrainingSettings(BaseModel):
    """How a model is trained; every choice here leaves the model and the objective as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    epochs: int = Field(100, ge=1, description="passes over the training data")
    steps_max: int | None = Field(
        None, ge=1, description="fewer epochs where they would take more steps than this (at least one)"
    )
    batch_size: int = Field(128, ge=1, description="data a step, over all ranks")
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="of the learning rate; cosine falls to 0 at the last step"
    )
    warmup_steps: int = Field(0, ge=0, description="steps over which the learning rate rises to its value")
    weight_decay: float = Field(0.0, ge=0, description="decoupled, as in AdamW")
    betas: tuple[float, float] = Field((0.9, 0.999), description="AdamW's decay rates of the two moments")
    gradient_clip: float | None = Field(None, gt=0, description="largest norm of the gradient")
    ema: float | None = Field(
        None, gt=0, lt=1, description="decay of a running average of the weights, which is then the result"
    )
    patience: int | None = Field(
        None, ge=1, description="validations without improvement before stopping; needs validation data"
    )
    valid_every: int = Field(1, ge=1, description="epochs between validations")
    seed: int = Field(0, ge=0, lt=2**30, description="of the data's order and of the posterior's noise")
    compile: bool | Literal["auto"] = Field(
        "auto",
        description="compile the step; auto: from 5,000 steps on, unless a network is recurrent or it cannot be",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="of the matrix products; bfloat16 is for GPUs (on a CPU it is several times slower)",
    )
    device: str = Field("auto", description="auto: a GPU where there is one")
    threads: int | None = Field(None, ge=1, description="None: as torch is set")
    checkpoint_seconds: float = Field(60.0, ge=0, description="between checkpoints")
    ranks: int = Field(
        1, ge=1, description="processes that a workflow trains with, each on its part of every batch"
    )
    rank_seconds: float = Field(
        50.0, gt=0, description="how long a rank may keep the others waiting before it counts as lost"
    )

    # where and how fast it runs, not what comes out: a resume may change these
    VOLATILE: ClassVar[frozenset[str]] = frozenset({"threads", "checkpoint_seconds", "ranks", "rank_seconds"})

    def passes(self, rows: int) -> int:
        """Epochs of a training on ``rows`` data: ``epochs``, or what ``steps_max`` leaves of them."""
        if self.steps_max is None:
            return self.epochs
        return min(self.epochs, max(self.steps_max // -(-rows // self.batch_size), 1))

    def steps(self, rows: int) -> int:
        """Of a training on ``rows`` data: of each epoch the last batch may be smaller."""
        return self.passes(rows) * -(-rows // self.batch_size)

    def for_rows(self, rows: int) -> TrainingSettings:
        """These, with a batch of at most all ``rows`` data."""
        return self.model_copy(update={"batch_size": min(self.batch_size, rows)})

    if not TYPE_CHECKING:  # to a type checker the fields are the arguments

        def __init__(self, **values: Any) -> None:
            """Raises InputError with what is wrong in one line."""
            try:
                super().__init__(**values)
            except ValidationError as error:
                from sciencevae.config import describe

                raise InputError(f"TrainingSettings: {describe(type(self), error)}") from None

        # inside a run's settings pydantic validates past it, and knows the whole path of a key
        __init__.__pydantic_base_init__ = True
