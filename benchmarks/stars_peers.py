"""What astronomers use to find a cluster's members, each as its authors or its documentation run it.

    .venv-stars/bin/python benchmarks/stars_peers.py METHOD FIELD.parquet OUT.parquet SEED

``benchmarks/peers/setup-stars`` makes that environment; this file imports nothing of ours. FIELD has the columns of
Gaia, every star with a finite parallax and proper motion and their errors. OUT gets ``source_id, cluster,
probability``; clusters are numbered from 1 in the order of the method's own preference, by a rule without labels.
The features of mixtures and HDBSCAN are (Δα cos δ, Δδ, μα*, μδ, ϖ).
"""

from __future__ import annotations

import configparser
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

PYUPMASK = Path(sys.prefix) / "pyUPMASK"
MEMBERS_LEAST = 20  # a peak of fewer stars is chosen only where there is no other


def features(frame: pd.DataFrame) -> np.ndarray:
    """Δα cos δ, Δδ (deg) from the field's middle, μα*, μδ (mas/yr), ϖ (mas): (N, 5)."""
    ra, dec = frame["ra"].to_numpy(float), frame["dec"].to_numpy(float)
    middle = np.degrees(np.angle(np.exp(1j * np.radians(ra)).mean()))
    offset = (ra - middle + 180) % 360 - 180
    columns = [offset * np.cos(np.radians(dec)), dec - dec.mean(), frame["pmra"], frame["pmdec"]]
    return np.stack([*columns, frame["parallax"]], axis=1).astype(float)


def by_density(x: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Columns of p (N, K) from the densest peak n |Σ|^(−1/2) on, those of fewer than 20 stars behind the others."""
    count = members.sum(0)
    volume = [0.5 * np.linalg.slogdet(np.cov(x.T, aweights=column))[1] for column in members.T]
    return members[:, np.lexsort([-np.log(count) + volume, count < MEMBERS_LEAST])]


def mixture(components: int) -> Callable[[pd.DataFrame, int], np.ndarray]:
    """Full Gaussians on standardised features, the best of five starts; the cluster is the densest component."""

    def find(frame: pd.DataFrame, seed: int) -> np.ndarray:
        from sklearn.mixture import GaussianMixture

        x = features(frame)
        x = (x - x.mean(0)) / x.std(0)
        fitted = GaussianMixture(components, n_init=5, max_iter=500, random_state=seed).fit(x)
        return by_density(x, fitted.predict_proba(x))[:, :1]

    return find


def hdbscan(frame: pd.DataFrame, seed: int) -> np.ndarray:
    """Robustly scaled features; of 54 settings the best on the fields to choose on; members have p from 0.5 on."""
    from sklearn.cluster import HDBSCAN

    x = features(frame)
    low, middle, high = np.percentile(x, [25, 50, 75], axis=0)
    x = (x - middle) / (high - low)
    found = HDBSCAN(min_cluster_size=10, min_samples=3, copy=True).fit(x)
    labels = np.arange(found.labels_.max() + 1)
    if not len(labels):
        return np.zeros((len(x), 1))
    order = by_density(x, (found.labels_[:, None] == labels).astype(float))
    return order * (1 + found.probabilities_[:, None]) / 2


def pyupmask(frame: pd.DataFrame, seed: int) -> np.ndarray:
    """pyUPMASK (Pera et al. 2021) with the parameters it comes with; GPL, run as a program."""
    x = features(frame)
    table = pd.DataFrame(x, columns=["_x", "_y", "pmRA", "pmDE", "Plx"])
    parameters = configparser.ConfigParser()
    parameters.optionxform = str  # type: ignore[assignment,method-assign]
    parameters.read(PYUPMASK / "params.ini")
    parameters["General parameters"]["rnd_seed"] = str(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "input").mkdir()
        table.to_csv(folder / "input" / "field.dat", sep=" ", index=False)
        with (folder / "params.ini").open("w") as file:
            parameters.write(file)
        command = [sys.executable, str(PYUPMASK / "pyUPMASK.py")]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"pyUPMASK: {done.stderr[-2000:]}")
        written = pd.read_csv(folder / "output" / "field.dat", sep=" ")
    if not np.allclose(written["pmRA"], table["pmRA"]):
        raise SystemExit("pyUPMASK gave the stars back in another order")
    return written["probs_final"].clip(lower=0).to_numpy()[:, None]  # −1: an outlier


def fastmp(centred: bool) -> Callable[[pd.DataFrame, int], np.ndarray]:
    """fastMP (Perren et al. 2023) of ASteCA; ``centred``: told that the cluster lies in the field's middle.

    It gets places on the tangent plane and leaves them: turned to galactic ones, a box along RA and Dec fills half
    of the rectangle in which it compares with a uniform sky, and nearly every star becomes a member.
    """

    def find(frame: pd.DataFrame, seed: int) -> np.ndarray:
        from asteca.cluster import Cluster
        from asteca.membership import Membership

        x, y = features(frame)[:, :2].T
        field = Cluster(
            frame.assign(ra=x + 180, dec=y),
            ra="ra", dec="dec", pmra="pmra", pmde="pmdec", plx="parallax",
            e_pmra="pmra_error", e_pmde="pmdec_error", e_plx="parallax_error",
        )  # fmt: skip
        middle = (180 + (x.min() + x.max()) / 2, (y.min() + y.max()) / 2)
        field.get_center(radec_c=middle if centred else None)
        field.get_nmembers(eq_to_gal=False)
        return np.asarray(Membership(field, seed=seed).fastmp(eq_to_gal=False))[:, None]

    return find


METHODS: dict[str, Callable[[pd.DataFrame, int], np.ndarray]] = {
    "gmm2": mixture(2),
    "gmm15": mixture(15),
    "hdbscan": hdbscan,
    "pyupmask": pyupmask,
    "fastmp": fastmp(centred=False),
    "fastmp-centred": fastmp(centred=True),
}


def main() -> None:
    method, field, out, seed = sys.argv[1:]
    frame = pd.read_parquet(field)
    probability = METHODS[method](frame, int(seed))  # (N, K)
    cluster, star = np.nonzero(probability.T)  # the preferred cluster first
    columns = {
        "source_id": frame["source_id"].to_numpy()[star],
        "cluster": [f"cluster {number + 1}" for number in cluster],
        "probability": probability[star, cluster],
    }
    pd.DataFrame(columns).astype({"cluster": str}).to_parquet(out, index=False)


if __name__ == "__main__":
    main()
