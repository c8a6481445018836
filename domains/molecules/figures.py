"""The figures of a run, drawn from its latents and models on disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from sciencevae.data.splits import split_rows
from sciencevae.latents.traverse import interpolate
from sciencevae.report.figures import DOUBLE_COLUMN, SEQUENTIAL, Drawing, Drawn, Mapped, places_in

from .analysis import decoded, new_molecules
from .chemistry import parsed
from .dataset import alphabet_of

if TYPE_CHECKING:
    from sciencevae.runs import Run

__all__ = ["interpolation", "latent_map", "neighbourhood", "samples"]

_COLUMNS = 6
_STEPS = 2  # of the neighbourhood, to each side
_SIZE = (200, 150)  # pixels of a structure
_SHOWN = 100  # test molecules that the map shows, and whose distances the neighbourhood is measured by


def samples(run: Run) -> Drawn | None:
    """New molecules of each model."""
    shown, names = [], []
    for name, variant in list(run.variants.items())[:4]:
        alphabet = alphabet_of(variant.data)
        shown += new_molecules(variant.model(), alphabet, 2 * _COLUMNS, run.settings.analyse.seed)
        names += [name] * 2 * _COLUMNS
    return _grid(
        shown, names if len(run.variants) > 1 else ()
    ), "New molecules, drawn from each model's prior."


def interpolation(run: Run) -> Drawn | None:
    """Between two test molecules, on a straight line in the latents."""
    variant = run.main
    latents = variant.latents
    test = split_rows(latents, "test")
    if len(test) < 2:
        return None
    model, alphabet = variant.model(), alphabet_of(variant.data)
    z = torch.as_tensor(latents["z"].isel(sample=test[:6]).values, dtype=torch.float32)
    pairs = z[: len(z) // 2 * 2].unflatten(0, (-1, 2))
    way = interpolate(pairs[:, 0], pairs[:, 1], _COLUMNS)  # (columns, pairs, D)
    shown = decoded(model, alphabet, way.transpose(0, 1).flatten(0, 1))
    return _grid(shown), "Each row leads from one test molecule (left) to another, decoded greedily."


def neighbourhood(run: Run) -> Drawn | None:
    """Around a test molecule: a plane of the latents, decoded (as Kusner et al. 2017, Fig. 3)."""
    variant = run.main
    latents = variant.latents
    rows = split_rows(latents, "test")[:_SHOWN]
    z = torch.as_tensor(latents["z"].isel(sample=rows).values, dtype=torch.float32)
    if min(z.shape) < 2:
        return None
    generator = torch.Generator().manual_seed(run.settings.analyse.seed)
    axes, _ = torch.linalg.qr(torch.randn(z.shape[1], 2, generator=generator))
    steps = torch.arange(-_STEPS, _STEPS + 1) * (torch.pdist(z).median() / 4)
    plane = z[0] + torch.cartesian_prod(steps, steps) @ axes.T
    shown = decoded(variant.model(), alphabet_of(variant.data), plane)
    legends = [""] * len(shown)
    legends[len(shown) // 2] = "its own latent"
    return _grid(shown, legends, len(steps)), (
        f"Around the test molecule {latents['smiles'][rows[:1]].values[0]}: a plane of the latents in two "
        "random directions, decoded greedily, in the middle what its own latent gives; a step is a quarter of the "
        "median distance between test molecules."
    )


def latent_map(run: Run) -> Drawn | None:
    """The two main directions of the latents, coloured by each property."""
    import matplotlib.pyplot as plt

    variant = run.main
    data = variant.data
    if "properties" not in data:
        return None
    names = data["property"].values.tolist()
    of = ["" if unit == "1" else unit for unit in data["properties"].attrs["units"].split(", ")]
    values, z = data["properties"].values, variant.latents["z"].values
    rows, centre = np.arange(len(z))[:5000], z.mean(0, dtype=float)
    centred = z[rows] - centre
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    place = centred @ axes[:2].T
    figure, panels = plt.subplots(
        1, len(names), figsize=(DOUBLE_COLUMN, DOUBLE_COLUMN / max(2, len(names))), squeeze=False
    )
    for column, axis in enumerate(panels[0]):
        low, high = np.nanquantile(values[rows, column], [0.01, 0.99])
        drawn = axis.scatter(
            *place.T, c=values[rows, column], s=1, cmap=SEQUENTIAL, vmin=low, vmax=high, rasterized=True
        )
        unit = f" ({of[column]})" if of[column] else ""
        figure.colorbar(drawn, ax=axis, label=f"{names[column]}{unit}", location="top")
        axis.set(xticks=[], yticks=[])
    shown = split_rows(data, "test")[:_SHOWN]
    smiles = data["smiles"].isel(sample=shown).values.tolist()
    told = []
    for text, row in zip(smiles, values[shown], strict=True):
        known = [
            (name, value, unit)
            for name, value, unit in zip(names, row, of, strict=True)
            if np.isfinite(value)
        ]
        told.append(", ".join([text, *(f"{name} {value:.3g} {unit}".strip() for name, value, unit in known)]))
    mapped = Mapped(
        figure,
        places_in(figure, panels[0], (z[shown] - centre) @ axes[:2].T),
        told,
        [_structure(text) for text in smiles],
    )
    return mapped, (
        "Molecules in the two main directions of their latents, coloured by property. The pointer on a circle "
        "shows that molecule, of those for testing."
    )


def _structure(smiles: str) -> str:
    """A molecule as SVG."""
    from rdkit.Chem.Draw import rdMolDraw2D

    canvas = rdMolDraw2D.MolDraw2DSVG(*_SIZE)
    canvas.drawOptions().clearBackground = False  # type: ignore[assignment]
    canvas.DrawMolecule(parsed(smiles))
    canvas.FinishDrawing()
    return canvas.GetDrawingText()


def _grid(smiles: Sequence[str], legends: Sequence[str] = (), columns: int = _COLUMNS) -> Drawing:
    """Structures in rows; an empty place where a SMILES is empty."""
    from rdkit.Chem import Draw

    given = {
        "mols": [parsed(text) for text in smiles],
        "molsPerRow": columns,
        "subImgSize": _SIZE,
        "legends": list(legends) or None,
    }
    return Drawing(Draw.MolsToGridImage(**given, useSVG=True), Draw.MolsToGridImage(**given, returnPNG=True))
