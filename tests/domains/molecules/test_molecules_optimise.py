"""What a search does with molecules that it cannot write."""

from __future__ import annotations

import numpy as np
import pytest
from sciencevae.builtin.molecules.chemistry import Refused
from sciencevae.builtin.molecules.optimise import Oracle, by_genes
from sciencevae.builtin.molecules.tokens import split

#: iodine with more bonds than SELFIES gives it
UNSAYABLE = "CC(=O)OI(OC(C)=O)(OC(C)=O)OC(C)=O"


def test_genes_come_from_what_selfies_can_say():
    with pytest.raises(Refused):
        split(UNSAYABLE, "selfies")
    oracle = Oracle(len)
    oracle.up_to(2, [UNSAYABLE, "CCCCO"])
    by_genes(None, oracle, 40, seed=0)
    assert oracle.calls == 40
    assert np.isfinite(oracle.best()).all()
    assert (np.diff(oracle.best()) >= 0).all()


def test_a_search_without_a_parent_ends():
    oracle = Oracle(len)
    oracle.up_to(1, [UNSAYABLE])
    by_genes(None, oracle, 40, seed=0)
    assert oracle.calls == 1
