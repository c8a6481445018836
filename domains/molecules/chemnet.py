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
_STEPS = 88  # of places, after both convolutions
_BATCH = 512


def one_hot(smiles: Sequence[str]) -> Tensor:
    """Canonical SMILES as (N, 35, P): a symbol each place, the end ".", then nothing; 1/35 where it stands.

    P are as many of the 350 places as it takes until the convolutions see nothing any more.

    As ChemNet was trained: a letter before l, r or i is one symbol with it, what is not known is X, and all behind
    the first "." is left out.
    """
    written = [_symbols(text) for text in smiles]
    longest = max(map(len, written), default=0)
    out = torch.zeros(len(smiles), len(_SYMBOLS), min(4 * ((longest + 2) // 4 + 1), _PLACES))
    for row, symbols in enumerate(written):
        out[row, symbols, range(len(symbols))] = 1 / len(_SYMBOLS)
    return out


def _symbols(text: str) -> list[int]:
    """The numbers of a SMILES' symbols, at most 350 with the end."""
    ended, at, found = text.partition(".")[0] + ".", 0, list[int]()
    while ended[at] != "." and len(found) < _PLACES - 1:
        size = 2 if ended[at + 1] in "lri" else 1
        found.append(_NUMBER.get(ended[at : at + size], _UNKNOWN))
        at += size
    return [*found, _END]


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
        """Places that x lacks are empty, and the convolutions leave them so: there the LSTM from the end is in the
        same state for all molecules, and what the other one reads is the same, too."""
        x = F.selu(self.first(F.pad(x, (1, 1))))
        x = F.selu(self.second(F.pad(x, (1, 2)))).transpose(1, 2)
        behind, state = x.new_zeros(1, 0, self.backward_pass.hidden_size), None
        if x.shape[1] < _STEPS:
            behind, state = self.backward_pass(x.new_zeros(1, _STEPS - x.shape[1], x.shape[2]))
            state = tuple(part.expand(-1, len(x), -1).contiguous() for part in state)
        states, _ = self.backward_pass(x.flip(1), state)
        _, (hidden, cell) = self.forward_pass(states.flip(1))
        return self._through_the_rest(hidden[0], cell[0], behind[0].flip(0))

    def _through_the_rest(self, hidden: Tensor, cell: Tensor, states: Tensor) -> Tensor:
        """The last state (B, 512) of the LSTM to the end, where all rows read the same states (T, 128)."""
        of_input, of_state, bias, other_bias = self.forward_pass.all_weights[0]
        for row in states @ of_input.T + bias + other_bias:
            let_in, forget, new, out = torch.addmm(row, hidden, of_state.T).chunk(4, 1)
            cell = forget.sigmoid() * cell + let_in.sigmoid() * new.tanh()
            hidden = out.sigmoid() * cell.tanh()
        return hidden

    @torch.no_grad()
    def activations(self, smiles: Sequence[str]) -> np.ndarray:
        """Of canonical SMILES, (N, 512)."""
        found = np.zeros((len(smiles), 512))
        order = sorted(range(len(smiles)), key=lambda row: len(smiles[row]))  # short ones beside short ones
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            found[rows] = self(one_hot([smiles[row] for row in rows]).to(self.first.weight)).cpu().numpy()
        return found


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
