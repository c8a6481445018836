"""What can be set about a run of this domain."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from sciencevae.config import PrepareSettings, RunSettings, Section

__all__ = ["Analyse", "Fluids", "Model", "Objective", "Padding", "Prepare", "Source", "Windows"]

#: what lies beyond an edge of the grid
Padding = Literal["periodic", "replicate", "zeros"]


class Source(Section):
    """Parameters of the generator, which knows their names; of data that are fetched nothing can be set."""

    model_config = ConfigDict(extra="allow")


class Prepare(PrepareSettings):
    """Which fields and frames, and how runs, or stretches of one run, become train, valid and test."""

    fields: list[str] = Field(
        default_factory=list, description="density, u, v, vorticity, pressure …: those to learn; none: all"
    )
    units: dict[str, str] = Field(
        default_factory=dict, description="field: its unit, where the file does not say ('1' for none)"
    )
    condition: list[str] = Field(
        default_factory=list, description="parameters of the runs that the model is told, as reynolds"
    )
    start: float | None = Field(default=None, description="first time that is used")
    stop: float | None = Field(default=None, description="last time that is used")
    every: int = Field(default=1, ge=1, description="take one frame in so many")
    resample: bool = Field(
        default=False, description="interpolate irregular times linearly to their median step"
    )
    mirror: Literal["x", "y"] | None = Field(
        default=None,
        description="the flow has no side along this axis: the mirror image of each training run trains, too (y: v "
        "and vorticity change sign there; x: u and vorticity)",
    )
    held_out: dict[str, list[float]] = Field(
        default_factory=dict, description="parameter: values of which every run is in test"
    )
    blocks: int = Field(
        default=1, ge=1, description="of a single run: how often train, valid, test follow each other in time"
    )
    window: int = Field(default=6, ge=1, description="frames that a forecast starts from")
    read: int = Field(
        default=1, ge=1, description="with prepare.ahead: frames, up to its own, that a datum is encoded from"
    )
    ahead: int = Field(
        default=0,
        ge=0,
        description="so many frames after its own that a datum describes, too: the latents are made to be forecast "
        "(data are kept read + ahead + 1 times)",
    )
    horizon: int = Field(
        default=10, ge=0, description="frames that a forecast goes; between two blocks of one run lie more "
        "than window + horizon frames"
    )  # fmt: skip
    grid: tuple[int, int] | None = Field(
        default=None,
        description="(rows, columns) that data on points are interpolated to linearly; the error is in the report",
    )
    centre: Literal["frame", "value"] = Field(
        default="frame",
        description="subtract the mean frame of training, or the mean value of each field (for a flow that is "
        "alike everywhere, and for a stream function)",
    )
    modes: int | None = Field(
        default=None,
        ge=1,
        description="describe a frame by so many mass-weighted POD modes of the training frames; data on points "
        "always are, on a grid they are convolved where this is not set",
    )


class Windows(Section):
    """The encoder of windows (prepare.ahead): linear forecasts, and a convolution beside."""

    modes: int = Field(default=128, ge=1, description="POD modes of the linear forecasts")
    ridge: float = Field(default=0.4, ge=0, description="of the linear forecasts")
    decay: float = Field(
        default=0.7, gt=0, le=1, description="a frame l steps back has the ridge / decay^(2l)"
    )
    width: int = Field(default=96, ge=1, description="channels of the convolution")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="of these channels, in training")


class Model(Section):
    """The three distributions."""

    latent: int = Field(
        default=8, ge=1, description="dimensions of z; with prepare.ahead, a multiple of ahead + 1"
    )
    windows: Windows = Field(default_factory=Windows)
    padding_x: Padding | None = Field(default=None, description="at the edges in x; none: as the file says")
    padding_y: Padding | None = Field(default=None, description="at the edges in y; none: as the file says")
    stream_function: bool = Field(
        default=False, description="decode u, v from a stream function: without divergence by construction"
    )
    channels: tuple[int, ...] = Field(default=(16, 32, 64), description="of the convolutions, each halves")
    hidden: tuple[int, ...] = Field(
        default=(128,), description="dense layers: of modes all of them, beside convolutions the first"
    )
    activation: Literal["relu", "silu", "gelu", "tanh", "softplus", "elu"] = "silu"

    @model_validator(mode="after")
    def _some_layers(self) -> Model:
        if not self.channels or not self.hidden:
            raise ValueError("channels, hidden: at least one layer each")
        return self


class Objective(Section):
    """The evidence lower bound."""

    beta: float = Field(default=1.0, ge=0, description="weight of KL(q(z|x) ‖ p(z))")
    beta_rise: float = Field(
        default=0.2, ge=0, le=1, description="share of the steps over which β rises from 0"
    )


class Analyse(Section):
    """What is measured on the trained models."""

    transient: bool = Field(
        default=False, description="runs grow from a steady flow to a saturated one: report both apart"
    )
    forecasters: list[Literal["linear", "residual", "lstm"]] = Field(
        default=["linear", "residual"], description="tried; the best on validation data is kept"
    )
    epochs: int = Field(default=200, ge=1, description="of a forecaster's training")
    lead_times: list[int] = Field(
        default=[1, 5, 10], description="frames ahead at which forecasts are scored"
    )
    members: int = Field(default=40, ge=40, description="of the ensembles of probabilistic forecasts")
    rollout: int = Field(default=0, ge=0, description="frames of the long rollout; 0: four times the horizon")
    clusters_max: int = Field(default=6, ge=1, description="regimes to look for at most")
    seed: int = Field(default=0, ge=0)


class Fluids(RunSettings):
    """A run of the domain ``fluids``."""

    dataset: str = "fluids"
    source: Source = Field(default_factory=Source)
    prepare: Prepare = Field(default_factory=Prepare)
    model: Model = Field(default_factory=Model)
    objective: Objective = Field(default_factory=Objective)
    analyse: Analyse = Field(default_factory=Analyse)

    @model_validator(mode="after")
    def _uniform_mean_of_a_stream_function(self) -> Fluids:
        if self.model.stream_function and self.prepare.centre != "value":
            raise ValueError(
                "model.stream_function: the mean frame may have divergence: prepare.centre=value"
            )
        return self

    @model_validator(mode="after")
    def _windows_of_plain_frames(self) -> Fluids:
        chosen = self.prepare
        if not chosen.ahead:
            if chosen.read > 1:
                raise ValueError(
                    "prepare.read: a datum of several frames describes some ahead: prepare.ahead=1 …"
                )
            return self
        if chosen.read > chosen.window or chosen.ahead > chosen.horizon:
            raise ValueError(
                "prepare.read, prepare.ahead: at most prepare.window and prepare.horizon, so that no datum reaches "
                "from one part of the data into another"
            )
        if chosen.modes or chosen.condition or self.model.stream_function:
            raise ValueError(
                "prepare.ahead: windows are of frames on a grid, without prepare.modes, prepare.condition and "
                "model.stream_function"
            )
        if self.model.latent % (chosen.ahead + 1):
            raise ValueError(
                f"model.latent={self.model.latent} is shared out over {chosen.ahead + 1} frames "
                "(prepare.ahead + 1): take a multiple"
            )
        return self
