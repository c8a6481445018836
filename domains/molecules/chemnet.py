"""Activations of ChemNet, the network whose view of molecules the Fréchet ChemNet Distance compares.

Preuer et al. 2018, J. Chem. Inf. Model. 58, 1736. The weights are those of the data set ``chemnet``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sciencevae.errors import RunError

__all__ = ["ChemNet", "frechet_distance", "one_hot"]

_SYMBOLS = (
    "C", "N", "O", "H", "F", "Cl", "P", "B", "Br", "S", "I", "Si", "#", "(", ")", "+", "-", "1", "2", "3", "4",
    "5", "6", "7", "8", "=", "[", "]", "@", "c", "n", "o", "s", "X", ".",
)  # fmt: skip
_NUMBER = {symbol: number for number, symbol in enumerate(_SYMBOLS)}
_UNKNOWN, _END = _NUMBER["X"], _NUMBER["."]
_PLACES = 350
_BATCH = 512


def one_hot(smiles: Sequence[str]) -> Tensor:
    """Canonical SMILES as (N, 35, 350): a symbol each place, the end ".", then nothing; 1/35 where it stands.

    As ChemNet was trained: a letter before l, r or i is one symbol with it, what is not known is X, and all behind
    the first "." is left out.
    """
    out = torch.zeros(len(smiles), len(_SYMBOLS), _PLACES)
    for row, text in enumerate(smiles):
        ended, at, place = text.partition(".")[0] + ".", 0, 0
        while ended[at] != "." and place < _PLACES - 1:
            size = 2 if ended[at + 1] in "lri" else 1
            out[row, _NUMBER.get(ended[at : at + size], _UNKNOWN), place] = 1 / len(_SYMBOLS)
            at, place = at + size, place + 1
        out[row, _END, place] = 1 / len(_SYMBOLS)
    return out


class ChemNet(nn.Module):
    """Two convolutions, an LSTM from the end to the beginning and one back: one_hot (B, 35, 350) → (B, 512)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(len(_SYMBOLS), 32, 4, stride=2, bias=False)
        self.second = nn.Conv1d(32, 32, 4, stride=2, bias=False)
        self.backward_pass = nn.LSTM(32, 128, batch_first=True)
        self.forward_pass = nn.LSTM(128, 512, batch_first=True)

    @classmethod
    def load(cls, path: Path) -> ChemNet:
        """The network with the published weights; RunError for another file."""
        network = cls()
        parts = (network.first, network.second, network.backward_pass, network.forward_pass)
        try:
            layers = torch.load(path, weights_only=True)
            for part, (_, (state, _, _)) in zip(parts, layers, strict=True):
                part.load_state_dict(state)
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            raise RunError(f"{path} does not hold ChemNet: fetch it again ({error})") from error
        return network.eval()

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.first, self.second):
            # as much on either side as makes half the places, more behind
            missing = layer.kernel_size[0] - (2 if x.shape[2] % 2 == 0 else x.shape[2] % 2)
            x = F.selu(layer(F.pad(x, (missing // 2, missing - missing // 2))))
        states, _ = self.backward_pass(x.transpose(1, 2).flip(1))
        _, (last, _) = self.forward_pass(states.flip(1))
        return last[0]

    @torch.no_grad()
    def activations(self, smiles: Sequence[str]) -> np.ndarray:
        """Of canonical SMILES, (N, 512)."""
        device = self.first.weight.device
        parts = [smiles[start : start + _BATCH] for start in range(0, len(smiles), _BATCH)]
        found = [self(one_hot(part).to(device)).cpu() for part in parts]
        return torch.cat(found).double().numpy() if found else np.zeros((0, 512))


def frechet_distance(
    mean: np.ndarray, covariance: np.ndarray, other_mean: np.ndarray, other_covariance: np.ndarray
) -> float:
    """‖μ − μ'‖² + tr(Σ + Σ' − 2 (Σ Σ')^½), the squared Wasserstein-2 distance of two normal distributions.

    tr (Σ Σ')^½ is the sum of the square roots of the eigenvalues of Σ^½ Σ' Σ^½, which is symmetric: exact where
    covariances have no full rank, too. Dowson & Landau 1982.
    """
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ other_covariance @ root).clip(min=0)).sum()
    square = np.square(mean - other_mean).sum()
    return float(square + np.trace(covariance) + np.trace(other_covariance) - 2 * cross)
