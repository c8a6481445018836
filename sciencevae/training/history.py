"""What happened during training: a row a validation, and how it ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["History"]


@dataclass
class History:
    """rows: ``epoch``, ``step``, ``seconds``, the scalars (learning rate, β …), and the means of each part of
    the loss since the row before, ``train_…``, and over the validation data, ``valid_…``.

    stopped: "epochs" (all done), or "patience" (early). best_epoch: whose weights the model has, with
    validation data. compiled: whether the step ran as one compiled graph; why_not: the compiler's reason.
    device: the processor it ran on, a GPU by its name.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    stopped: str | None = None
    best_epoch: int | None = None
    best_loss: float | None = None
    compiled: bool = False
    why_not: str | None = None
    seconds: float = 0.0
    steps: int = 0
    device: str | None = None

    def table(self) -> pd.DataFrame:
        """The rows as a DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
