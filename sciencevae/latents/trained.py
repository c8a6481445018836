"""A trained model's file opened: what reads a user's own data with it, and gives decoded data their units."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sciencevae.batch import Batch
from sciencevae.errors import InputError, one_line
from sciencevae.latents.columns import IDENTIFY, spread
from sciencevae.latents.typical import Typical
from sciencevae.provenance import file_hash
from sciencevae.training.checkpoint import as_described
from sciencevae.vae.files import REMEDY, load, load_metadata, model_path
from sciencevae.vae.model import VAE

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from sciencevae.data.scaling import Scaling
    from sciencevae.registry import Domain

__all__ = ["BLOCK_ROWS", "Trained", "physical", "physical_spread", "refuse_unusable", "warn_left_out"]

log = logging.getLogger(__name__)
#: rows that go through the model at once; with what is computed on the way a megabyte each at most
BLOCK_ROWS = 1024


@dataclass(frozen=True)
class Trained:
    """A model's file opened: the model, its domain and settings, and the data it was trained on, without rows."""

    model: VAE
    domain: Domain
    settings: Any
    template: xr.Dataset
    scaling: Scaling
    typical: Typical | None
    fingerprint: str

    @classmethod
    def open(cls, path: str | Path, overrides: Sequence[str] = ()) -> Trained:
        """overrides: ``prepare.key=value``, of how a user's own file is read.

        Raises InputError for a file that no run of a domain wrote.
        """
        from sciencevae.config import overridden, validate
        from sciencevae.data import template
        from sciencevae.data.scaling import Scaling
        from sciencevae.registry import domain

        path = model_path(path)
        metadata = load_metadata(path)
        if not {"domain", "settings", "data"} <= set(metadata):
            raise InputError(f"{path} does not say which domain it is of: give the model of a run")
        owner = domain(str(metadata["domain"]))
        if wrong := next((given for given in overrides if not given.startswith("prepare.")), None):
            raise InputError(
                f"--set {wrong}: the model is trained; prepare.… alone, how data are read, can be set"
            )
        with as_described(path, REMEDY):
            settings = validate(owner.settings, *overridden(metadata["settings"], overrides, str(path)))
            settings = settings.variant("main")
            data = template.from_json(metadata["data"])
            typical = Typical.from_json(metadata["typical"]) if "typical" in metadata else None
            scaling = Scaling.of(data)
        return cls(load(path), owner, settings, data, scaling, typical, file_hash(path))

    def read(self, source: str | Path) -> Iterator[xr.Dataset]:
        """The user's file in blocks, as the domain reads it."""
        source = Path(source)
        if self.domain.read is None:
            raise InputError(f"domain {self.domain.name!r} does not read files of your own")
        if not source.exists():
            raise InputError(f"no file {source}")
        for block in self.domain.read(source, self.settings, self.template):
            for start in range(0, block.sizes["sample"], BLOCK_ROWS):
                yield block.isel(sample=slice(start, start + BLOCK_ROWS))

    def beyond(self, values: np.ndarray, kind: str) -> dict[str, np.ndarray]:
        """The column that says how far rows lie from the training data, where the model brings what it needs."""
        if self.typical is None:
            return {}
        return {"beyond": self.typical.beyond(values, kind).astype(np.float32)}

    def batch(self, block: xr.Dataset, status: np.ndarray, checked: bool) -> Batch | None:
        """The rows of a block whose ``status`` is ok, scaled.

        checked: those that the likelihood cannot have made get their reason into ``status``
        """
        from sciencevae.data.batches import as_batches

        rows = np.flatnonzero(status == "ok")
        if not len(rows):
            return None
        usable = block.isel(sample=rows).drop_vars("split", errors="ignore")
        (batch,) = as_batches(usable, scaling=self.scaling, some=True).blocks(len(rows))
        if refused := dict(_refused(self.model, batch)) if checked else {}:
            status[rows[list(refused)]] = list(refused.values())
            return self.batch(block, status, checked=False)
        return batch


def refuse_unusable(source: str | Path, statuses: Counter[str]) -> None:
    """InputError where no row of a file could be used, with the first reason."""
    if "ok" not in statuses:
        reason = next(iter(statuses), "it has no rows")
        raise InputError(f"{source}: no row can be used; the first reason: {reason}")


def warn_left_out(source: str | Path, statuses: Counter[str]) -> None:
    """Say how many rows of a file could not be used, and why."""
    reasons = statuses - Counter(ok=statuses["ok"])
    if reasons:
        first = one_line("; ".join(f"{reason} ({times})" for reason, times in reasons.most_common(3)))
        more = f"; {len(reasons) - 3} other reasons" if len(reasons) > 3 else ""
        log.warning(
            "%s: %d of %d rows are left out: %s%s", source, reasons.total(), statuses.total(), first, more
        )


def _refused(model: VAE, batch: Batch, first: int = 0) -> Iterator[tuple[int, str]]:
    """The rows that a model does not take, and why: a batch with such is halved until they are alone."""
    try:
        model.check(batch)
    except InputError as error:
        if len(batch) == 1:
            yield first, str(error)
            return
        half = len(batch) // 2
        yield from _refused(model, batch[:half], first)
        yield from _refused(model, batch[half:], first + half)


def physical(trained: Trained, x: Any, good: np.ndarray, table: pd.DataFrame) -> xr.Dataset:
    """Decoded fields unscaled, as the prepared data have them, beside what identifies each row."""
    import xarray as xr

    fields = x if isinstance(x, dict) else {"x": x}
    variables = {}
    for name, tensor in fields.items():
        values = spread(trained.scaling.invert(name, tensor).numpy(), good)
        known = trained.template[name]
        variables[name] = (known.dims, values, known.attrs)
    kept = [name for name in table.columns if name in IDENTIFY or str(name).startswith("condition")]
    coords = {str(name): ("sample", table[name].to_numpy()) for name in kept}
    attributes = trained.template.attrs | {"domain": trained.domain.name, "model": trained.fingerprint}
    return xr.Dataset(variables, coords=trained.template.coords, attrs=attributes).assign_coords(coords)


def physical_spread(trained: Trained, deviations: Any, good: np.ndarray) -> dict[str, Any]:
    """Variables NAME_std, standard deviations (tensors by field) in the units of the fields."""
    found = {}
    for name, tensor in deviations.items():
        values = spread(trained.scaling.noise(tensor, name, inverse=True).numpy(), good)
        known = trained.template[name]
        told = {"long_name": f"standard deviation of {known.attrs.get('long_name', name)}"}
        found[f"{name}_std"] = (known.dims, values, {**known.attrs, **told})
    return found
