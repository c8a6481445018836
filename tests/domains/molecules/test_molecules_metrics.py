"""The metrics of MOSES on sets small enough to count by hand, and ChemNet's distance in closed form."""

import numpy as np
import pytest
import torch
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator
from sciencevae.builtin.molecules import metrics
from sciencevae.builtin.molecules.chemnet import ChemNet, frechet_distance, one_hot
from scipy import linalg
from torch.nn import functional

from sciencevae.errors import InputError


@pytest.fixture(scope="module")
def described(smiles):
    return metrics.describe([*smiles[:59], "c1ccc2ccccc2c1"])


def test_a_set_against_itself(described):
    found = metrics.compare(described, described)
    for name in ("SNN", "Frag", "Scaf"):
        assert found[name] == pytest.approx(1, abs=1e-12)
    assert all(found[f"W1 {name}"] == 0 for name in metrics.PROPERTIES)


def test_similarities_are_rdkits(smiles, described):
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    molecules = [*smiles[:59], "c1ccc2ccccc2c1", *smiles[60:120]]
    prints = [generator.GetFingerprint(Chem.MolFromSmiles(text)) for text in molecules]
    others = metrics.describe(smiles[60:120])
    wanted = [max(DataStructs.BulkTanimotoSimilarity(a, prints[:60])) for a in prints[60:]]
    assert np.allclose(
        metrics.nearest_similarity(others.fingerprints, described.fingerprints), wanted, atol=1e-12
    )
    table = np.array([DataStructs.BulkTanimotoSimilarity(a, prints[:60]) for a in prints[:60]])
    found = metrics.alone(described)
    assert found["IntDiv"] == pytest.approx(1 - table.mean(), abs=1e-12)
    assert found["IntDiv2"] == pytest.approx(1 - np.sqrt((table**2).mean(1)).mean(), abs=1e-12)


def test_shares_by_hand():
    new = metrics.describe(["CCO", "OCC", "CCN", "C(", "CC(C)(C)(C)C"])
    assert (new.asked, new.smiles) == (5, ("CCO", "CCO", "CCN"))
    found = metrics.alone(new, frozenset({"CCN"}))
    assert found["Valid"] == 0.6
    assert metrics.unique_share(new.smiles) == pytest.approx(2 / 3)
    assert found["Novelty"] == 0.5


def test_fragments_and_scaffolds_by_hand():
    # BRICS cuts phenyl acetate at its ester; biphenyl is a scaffold of two rings, toluene has one ring
    one = metrics.describe(["c1ccc(-c2ccccc2)cc1", "Cc1ccc(-c2ccccc2)cc1", "Cc1ccccc1"])
    assert dict(one.scaffolds) == {"c1ccc(-c2ccccc2)cc1": 2}
    other = metrics.describe(["c1ccc(-c2ccccc2)cc1", "c1ccc2ccccc2c1", "c1ccc2ccccc2c1"])
    assert metrics.compare(one, other)["Scaf"] == pytest.approx(2 * 1 / (2 * np.sqrt(1 + 4)))
    fragments = metrics.describe(["CC(=O)Oc1ccccc1"]).fragments
    assert sum(fragments.values()) == 3
    assert any("c1ccccc1" in name for name in fragments)


def test_filters(tmp_path):
    path = tmp_path / "mcf.csv"
    path.write_text("names,smarts\nnitrile,C#N\n")
    smiles = ["CCO", "CC#N", "C[N+](C)(C)C", "C1CCCCCCC1", "CB(O)O", "C1CCCCCC1"]
    assert metrics.describe(smiles, [path]).passes.tolist() == [True, False, False, False, False, True]
    path.write_text("names,smarts\nbad,C((\n")
    with pytest.raises(InputError, match="no SMARTS"):
        metrics.describe(smiles, [path])


def test_none_valid():
    with pytest.raises(InputError, match="none of 2 molecules is valid"):
        metrics.describe(["", "C("])


def test_frechet_distance_of_normals():
    generator = np.random.default_rng(0)
    a, b = (generator.normal(size=(6, 6)) for _ in range(2))
    mean, other, one, two = generator.normal(size=6), generator.normal(size=6), a @ a.T, b @ b.T
    wanted = np.square(mean - other).sum() + np.trace(one + two - 2 * linalg.sqrtm(one @ two).real)
    assert frechet_distance(mean, one, other, two) == pytest.approx(wanted, rel=1e-9)
    assert frechet_distance(mean, one, mean, one) == pytest.approx(0, abs=1e-9)
    # along one axis: (μ − μ')² + (σ − σ')²
    assert frechet_distance(
        *map(np.atleast_1d, (1.0,)), np.eye(1) * 4, np.zeros(1), np.eye(1)
    ) == pytest.approx(2)


def test_symbols_of_chemnet():
    found = one_hot(["CCl", "[Si]", "C.O", "[te]"])
    rows = found.argmax(1)
    from sciencevae.builtin.molecules.chemnet import _SYMBOLS

    def read(row):
        places = found[row].sum(0) > 0
        return [_SYMBOLS[number] for number in rows[row][places].tolist()]

    assert read(0) == ["C", "Cl", "."]
    assert read(1) == ["[", "Si", "]", "."]
    assert read(2) == ["C", "."], "what is behind the first end is left out"
    assert read(3) == ["[", "X", "X", "]", "."]
    assert found.max() == pytest.approx(1 / 35)


def test_chemnet_sees_all_350_places_of_each_molecule():
    """Beside the network as published: every place through every layer."""
    torch.manual_seed(0)
    network = ChemNet().double().eval()
    given = ["C" * length for length in (342, 3, 343, 344, 345, 346, 347, 348, 349, 350, 351, 1)]
    given += ["CCO", "CCN", "c1ccccc1", "CC(=O)Oc1ccccc1C(=O)O"]

    def published(text):
        x = functional.pad(one_hot([text]), (0, 350 - one_hot([text]).shape[2])).double()
        x = functional.selu(network.first(functional.pad(x, (1, 1))))
        x = functional.selu(network.second(functional.pad(x, (1, 2))))
        states, _ = network.backward_pass(x.transpose(1, 2).flip(1))
        return network.forward_pass(states.flip(1))[1][0][0]

    with torch.no_grad():
        wanted = torch.cat([published(text) for text in given]).numpy()
        together = network.activations(given)
        alone = np.concatenate([network.activations([text]) for text in given])
    assert together.shape == (len(given), 512)
    np.testing.assert_allclose(together, wanted, atol=1e-12)
    np.testing.assert_allclose(alone, wanted, atol=1e-12)
