"""Networks for the columns of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sciencevae.networks import Perceptron
from sciencevae.spec import recorded

__all__ = ["TableDecoder", "TableEncoder"]


@recorded
class TableEncoder(nn.Module):
    """Fields with what is missing as 0, and their masks → (mean, log variance): {name: (B, n_f)} → (B, 2·dim).

    The perceptron sees scaled numbers as they are; log(1 + k) of counts k; each category as one of K, all 0 where
    it is missing; and which numbers and counts are there.

    widths: columns of each field; categories: K of those that are categories.
    """

    def __init__(
        self, widths: Mapping[str, int], categories: Mapping[str, int], hidden: Sequence[int], dim: int
    ) -> None:
        super().__init__()
        self.widths, self.categories, self.out_features = dict(widths), dict(categories), 2 * dim
        seen = sum(n * categories.get(name, 2) for name, n in widths.items())
        self.perceptron = Perceptron(seen, hidden, 2 * dim)

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        dtype = next(self.parameters()).dtype
        seen = []
        for name in self.widths:
            values, observed = x[name], x[f"{name}.observed"].to(dtype)
            if name in self.categories:
                one_of = nn.functional.one_hot(values, self.categories[name]).to(dtype)  # (B, n, K)
                seen.append((one_of * observed.unsqueeze(-1)).flatten(1))
            else:
                numbers = torch.log1p(values.to(dtype)) if name == "counts" else values
                seen += [numbers, observed]
        return self.perceptron(torch.cat(seen, dim=1))


@recorded
class TableDecoder(nn.Module):
    """z → what describes each field, {name: (B, outputs_f)}: (B, dim) → a mapping, from one perceptron.

    outputs: the numbers that the likelihood of each field takes.
    """

    def __init__(self, outputs: Mapping[str, int], hidden: Sequence[int], dim: int) -> None:
        super().__init__()
        self.outputs = dict(outputs)
        self.perceptron = Perceptron(dim, list(hidden)[::-1], sum(outputs.values()))

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        parts = self.perceptron(z).split(list(self.outputs.values()), dim=1)
        return dict(zip(self.outputs, parts, strict=True))
