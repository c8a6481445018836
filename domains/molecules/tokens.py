"""Molecules as sequences of tokens: SELFIES, of which every sequence is a molecule, or SMILES."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import selfies

from .chemistry import Refused, completed

__all__ = ["STOP", "Alphabet", "split"]

#: the token that ends a sequence; those of the alphabet follow
STOP = 0

_SMILES = re.compile(r"\[[^\]]*\]|Br|Cl|%\d\d|[A-Za-z0-9=#$:/\\.()+*@~-]")
_UNSAID = {
    "*": "an atom of any element",
    "->": "a dative bond",
    "<-": "a dative bond",
    "~": "a bond of any order",
    "$": "a quadruple bond",
    ":": "an aromatic bond of atoms that are not",
}
_ATOM = re.compile(r"\[(?P<bond>[=#/\\]?)(?P<body>(?P<isotope>\d*)(?P<element>[A-Z][a-z]?)[^\]]*)\]")
_BRANCHES_AND_RINGS = tuple(
    f"[{bond}{kind}{size}]" for kind in ("Branch", "Ring") for bond in ("", "=", "#") for size in (1, 2, 3)
)


def split(smiles: str, notation: str) -> list[str]:
    """The tokens of a standard SMILES in a notation; Refused where the notation can't say it."""
    if notation == "smiles":
        return _SMILES.findall(smiles)
    try:
        return list(selfies.split_selfies(selfies.encoder(smiles)))
    except (selfies.EncoderError, KeyError) as error:  # KeyError: an aromatic bond of an atom that has none
        raise Refused(f"SELFIES cannot say it: {_unsaid(smiles, error)}") from None


def _unsaid(smiles: str, error: Exception) -> str:
    """What in a SMILES has no SELFIES: the bonds that its rules forbid, or a kind of atom or bond."""
    if "with" in (last := str(error).strip().splitlines()[-1]):  # [C with 5 bond(s) - a max. of 4 …]
        return last.strip()
    return next(
        (f"{said} ({sign})" for sign, said in _UNSAID.items() if sign in smiles), "an atom or a bond of it"
    )


@dataclass(frozen=True)
class Alphabet:
    """The tokens that a model knows, in their order from 1 on; 0 is ``STOP``.

    trained: how many of them, the first ones, stood in the training molecules
    """

    tokens: tuple[str, ...]
    trained: int
    notation: str = "selfies"

    @classmethod
    def of(cls, molecules: Iterable[Iterable[str]], notation: str) -> Alphabet:
        """The tokens of training molecules; of SELFIES also each atom in them with the other bonds that it can
        have, and all branches and rings, so that what differs in a bond alone is not refused."""
        seen = sorted({token for tokens in molecules for token in tokens})
        more = sorted(_closure(seen) - set(seen)) if notation == "selfies" else []
        return cls((*seen, *more), len(seen), notation)

    def __len__(self) -> int:
        """Tokens, and the stop."""
        return len(self.tokens) + 1

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens, start=1)}

    def number(self, token: str) -> int:
        """Of a token; −2 for one that the alphabet lacks."""
        return self._numbers.get(token, -2)

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """Their numbers, and the stop behind them; Refused naming the token that the alphabet lacks."""
        try:
            return [*(self._numbers[token] for token in tokens), STOP]
        except KeyError as error:
            raise Refused(f"the model's alphabet lacks {error.args[0]}") from None

    def unseen(self, numbers: Iterable[int]) -> list[str]:
        """The tokens of a sequence that no training molecule has, each once."""
        return sorted({self.tokens[number - 1] for number in numbers if number > self.trained})

    def decode(self, numbers: Iterable[int]) -> str:
        """The canonical SMILES of a sequence up to its stop; "" where it is no molecule."""
        tokens = []
        for number in numbers:
            if number <= STOP:
                break
            tokens.append(self.tokens[number - 1])
        text = "".join(tokens)
        if self.notation == "selfies":
            text = selfies.decoder(text)
        return completed(text)


def _closure(seen: Iterable[str]) -> set[str]:
    """Atoms with each bond that their valence allows, all branches and rings."""
    valence = selfies.get_semantic_constraints()
    found = set(_BRANCHES_AND_RINGS)
    for token in seen:
        match = _ATOM.fullmatch(token)
        if match is None or token in found:
            continue
        body = match["body"]
        charge = re.search(r"[+-]\d+$", body)
        hydrogens = re.search(r"H(\d+)", body)
        free = valence.get(match["element"] + (charge[0] if charge else ""), valence["?"])
        free -= int(hydrogens[1]) if hydrogens else 0
        bonds = ("", "/", "\\", *(("=",) if free > 1 else ()), *(("#",) if free > 2 else ()))
        found |= {f"[{bond}{body}]" for bond in bonds if free > 0}
    return found
