"""The figures of a run, drawn from its tables, latents and models on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from sciencevae.batch import Batch
from sciencevae.report.figures import COLOURS, DOUBLE_COLUMN, SINGLE_COLUMN, image_grid

from .analysis import first_images
from .dataset import CLASSES, observed_quadrants

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sciencevae.runs import Run, Variant

__all__ = [
    "completed",
    "curves",
    "factors",
    "latent_map",
    "manifold",
    "reconstructions",
    "samples",
    "traversal",
]

_GREY = "gray_r"
_SHOWN = 8
Drawn = tuple["Figure", str]


def reconstructions(run: Run) -> Drawn | None:
    """Test images above what each model makes of them."""
    found = [v for v in run.variants.values() if v.settings.prepare.condition != "quadrants"][:_SHOWN]
    if not found:
        return None
    rows, labels = [], []
    shown: np.ndarray | None = None
    for variant in found:
        test = first_images(variant, "test", 10)
        images = _pictures(test.x)
        if shown is None or not np.array_equal(images, shown):  # variants may be of different images
            rows.append(shown := images)
            labels.append("test image")
        rows.append(_pictures(variant.model().reconstruct(test.x, test.context)))
        labels.append(variant.name)
    return image_grid(np.stack(rows), row_labels=labels, cmap=_GREY, limits=(0, 1)), (
        "Test images, and the mean of p(x | z) at the posterior mean of z."
    )


def samples(run: Run) -> Drawn | None:
    """New images of every model: the means of p(x | z), z drawn from the prior."""
    rows, labels = [], []
    for variant in list(run.variants.values())[:_SHOWN]:
        if variant.settings.prepare.condition == "quadrants":
            continue
        model = variant.model()
        context = {"condition": torch.eye(10)} if "condition" in variant.data else None
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(run.settings.analyse.seed)
            rows.append(_pictures(model.decode(model.sample_latents(10, context), context).mean))
        labels.append(variant.name)
    if not rows:
        return None
    told = ", told the classes 0 to 9 in turn" if run.settings.prepare.condition == "label" else ""
    return image_grid(np.stack(rows), row_labels=labels, cmap=_GREY, limits=(0, 1)), (
        f"New images: means of p(x | z) with z drawn from each model's prior{told}."
    )


def manifold(run: Run) -> Drawn | None:
    """The plane of a model of two latent dimensions."""
    from sciencevae.latents.traverse import manifold as plane

    for variant in run.variants.values():
        if variant.settings.model.latent == 2 and _plain(variant):
            found = plane(variant.model(), steps=20)
            images = _numbers(found.mean)[:, :, 0]
            return image_grid(images, cmap=_GREY, limits=(0, 1), gap=0), (
                f"What the latent plane of {variant.name} decodes to, at equal shares of the prior "
                "(Kingma & Welling 2014, figure 4)."
            )
    return None


def traversal(run: Run) -> Drawn | None:
    """One latent dimension at a time, those that tell most, from the first test image."""
    from sciencevae.latents.traverse import traverse

    span = 2.5
    for variant in run.variants.values():
        if not _plain(variant):
            continue
        model, test = variant.model(), first_images(variant, "test", 1)
        kl = variant.metrics["latents"]["kl_by_dim"]  # None where it is not known by dimension
        dims = (np.argsort(-np.array(kl)) if kl else np.arange(model.dim))[:10].tolist()
        with torch.no_grad():
            z = model.encode(test.x).mean[0]
        images = _numbers(traverse(model, z, dims, span=span, steps=9).mean)[:, :, 0]
        labels = [f"$z_{{{d}}}$, {kl[d]:.1f} nats" if kl else f"$z_{{{d}}}$" for d in dims]
        places = [f"{t:+.1f}σ".replace("-", "−") if t else "0" for t in np.linspace(-span, span, 9)]
        figure = image_grid(images, labels, places, cmap=_GREY, limits=(0, 1))
        figure.axes[0].set_title("one latent, from the prior's mean, in units of the prior's σ")
        told = " Beside each, its KL." if kl else ""
        return figure, (
            f"{variant.name}: a test image decoded with one latent at a time moved from −{span} to {span} standard "
            f"deviations σ of the prior.{told}"
        )
    return None


def latent_map(run: Run) -> Drawn | None:
    """The latents of test images by class, in their two widest directions."""
    import matplotlib.pyplot as plt

    main = run.variants["main"]
    latents = main.latents
    if not {"label", "z"} <= {*latents.variables}:
        return None
    rows = np.flatnonzero(latents["split"].values == 2)[:4000]
    z, label = latents["z"].values[rows].astype(float), latents["label"].values[rows]
    labels = [f"$z_{d}$" for d in range(2)]
    if z.shape[1] > 2:
        centred = z - z.mean(0)
        _, size, directions = np.linalg.svd(centred, full_matrices=False)
        z = centred @ directions[:2].T
        shares = size**2 / (size**2).sum()
        labels = [
            f"{n} component, {100 * s:.0f} % of variance"
            for n, s in zip(("first", "second"), shares, strict=False)
        ]
    figure, axes = plt.subplots(figsize=(SINGLE_COLUMN, 3.0))
    names = CLASSES[main.settings.dataset]
    for k in np.unique(label):
        own = label == k
        colour = plt.get_cmap("tab10")(int(k))
        axes.scatter(z[own, 0], z[own, 1], s=2, color=colour, linewidths=0, label=names[k])
    axes.set(xlabel=labels[0], ylabel=labels[1])
    axes.set_aspect("equal", "datalim")  # one scale: a direction that says little looks so
    axes.legend(markerscale=4, fontsize=6, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.draw_without_rendering()  # the scale changes the ticks, for which the layout then leaves room
    told = "was told" if main.settings.prepare.condition == "label" else "was not told"
    return figure, f"Posterior means of test images, by class (which the model {told})."


def factors(run: Run) -> Drawn | None:
    """Disentanglement of each model, by factor."""
    import matplotlib.pyplot as plt

    if not (run.tables / "disentanglement.csv").exists():
        return None
    table = run.table("disentanglement")
    overall = table[table.factor == "all"].set_index("model")
    scores = ["mig", "factor_vae", "disentanglement", "completeness", "informativeness", "sap"]
    figure, axes = plt.subplots(figsize=(DOUBLE_COLUMN, 2.4))
    width = 0.8 / len(overall)
    for i, model in enumerate(overall.index):
        axes.bar(np.arange(len(scores)) + i * width, overall.loc[model, scores], width, label=model)
    names = ["MIG", "FactorVAE", "DCI disentanglement", "DCI completeness", "DCI informativeness", "SAP"]
    axes.set_xticks(np.arange(len(scores)) + 0.4 - width / 2, [name.replace(" ", "\n") for name in names])
    axes.set(ylabel="score", ylim=(0, 1))
    axes.legend()
    return figure, "How far single latents follow single factors; 1 is perfect."


def completed(run: Run) -> Drawn | None:
    """Images of which some quadrants were told, and draws of the others."""
    for variant in run.variants.values():
        if variant.settings.prepare.condition != "quadrants" or variant.settings.model.kind != "vae":
            continue
        test = first_images(variant, "test", 8)
        told = observed_quadrants(variant.settings.prepare.quadrants, 28, 28).ravel()

        def whole(rest: torch.Tensor | None, test: Batch = test, told: np.ndarray = told) -> np.ndarray:
            images = np.full((len(test), told.size), np.nan)
            images[:, told] = test.context["condition"]
            if rest is not None:
                images[:, ~told] = rest
            return images.reshape(-1, 28, 28)

        model = variant.model()
        assert isinstance(test.x, torch.Tensor)
        rows, labels = [whole(None), whole(test.x)], ["told", "test image"]
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(run.settings.analyse.seed)
            for number in range(4):
                z = model.sample_latents(len(test), test.context)
                rows.append(whole(model.decode(z, test.context).mean))
                labels.append(f"draw {number + 1}")
        return image_grid(np.stack(rows), row_labels=labels, cmap=_GREY, limits=(0, 1)), (
            f"{variant.name}: what was told of test images, the images, and what four draws from p(z | c) say of "
            "the rest."
        )
    return None


def curves(run: Run) -> Drawn | None:
    """Area under the ROC curve of each class left out of training, for every score."""
    import matplotlib.pyplot as plt

    if not (run.tables / "anomalies.csv").exists():
        return None
    table = run.table("anomalies")
    figure, axes = plt.subplots(figsize=(DOUBLE_COLUMN, 2.4))
    for (score, rows), colour in zip(table.groupby("score", sort=False), COLOURS, strict=False):
        axes.errorbar(
            rows["class"].astype(str), rows.auc, rows.error, fmt="o", ms=3, color=colour, label=score
        )
    axes.axhline(0.5, color="black", lw=0.5)
    axes.set(xlabel="class that training did not see", ylabel="area under the ROC curve", ylim=(0, 1))
    axes.legend(ncols=2)
    return figure, "How well each score tells the unseen class from the others; one half is chance."


def _plain(variant: Variant) -> bool:
    """Whether a model has continuous latents and is told nothing."""
    return variant.settings.model.kind == "vae" and variant.settings.prepare.condition == "none"


def _pictures(x: object) -> np.ndarray:
    return _numbers(x)[:, 0]


def _numbers(x: object) -> np.ndarray:
    assert isinstance(x, torch.Tensor)
    return x.detach().numpy()
