"""The contract of batches, for each kind that fulfils it, and what belongs to one kind only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from sciencevae.batch import Batch
from sciencevae.data.batches import Batches, InMemory, as_batches
from sciencevae.data.order import order
from sciencevae.data.scaling import Scaling
from sciencevae.data.store import open_store, write
from sciencevae.data.streaming import Streaming
from sciencevae.errors import InputError

Table = Callable[..., xr.Dataset]
Make = Callable[..., Batches]

BLOCK, WINDOW = 16, 3


@pytest.fixture(scope="module")
def stores(table: Table, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same table shuffled (splits lie together) and in order (splits lie scattered)."""
    folder = tmp_path_factory.mktemp("stores")
    ds = table(430).assign(weight=("sample", np.linspace(0.5, 2, 430).astype("f4")))
    write(ds, folder / "shuffled.zarr", seed=1, chunk_rows=BLOCK)
    write(ds, folder / "ordered.zarr", chunk_rows=BLOCK, shuffle=False)
    fields = ds.rename(x="photometry").drop_vars("weight").assign(spectrum=ds["x"] * 2)
    fields.attrs |= {"fields": ["photometry", "spectrum"], "context": ["extra"]}
    write(fields.assign(extra=ds["target"] + 1), folder / "fields.zarr", seed=1, chunk_rows=BLOCK)
    return {path.stem: path for path in folder.iterdir()}


def _in_memory(path: Path, split: str | None) -> Batches:
    loaded = as_batches(path, split)
    assert isinstance(loaded, InMemory)
    return InMemory(loaded.data, block=BLOCK, window=WINDOW)


def _from_dataset(path: Path, split: str | None) -> Batches:
    loaded = as_batches(open_store(path).load(), split)
    assert isinstance(loaded, InMemory)
    return InMemory(loaded.data, block=BLOCK, window=WINDOW)


def _streaming(path: Path, split: str | None) -> Batches:
    return Streaming(path, split, window=WINDOW)


KINDS = {"memory": _in_memory, "dataset": _from_dataset, "streaming": _streaming}


@pytest.fixture(params=["shuffled", "ordered", "fields"])
def store(request: pytest.FixtureRequest, stores: dict[str, Path]) -> Path:
    return stores[request.param]


@pytest.fixture(params=list(KINDS))
def make(request: pytest.FixtureRequest) -> Make:
    return KINDS[request.param]


def _equal(first: Batch, second: Batch) -> bool:
    one, two = first.tensors(), second.tensors()
    return list(one) == list(two) and all(
        torch.equal(torch.nan_to_num(one[k], 9e9), torch.nan_to_num(two[k], 9e9)) for k in one
    )


def _x(batch: Batch) -> torch.Tensor:
    return batch.x if isinstance(batch.x, torch.Tensor) else batch.x["photometry"]


def _all(batches: Iterator[Batch]) -> Any:
    found = [batch.tensors() for batch in batches]
    return Batch.from_tensors({name: torch.cat([each[name] for each in found]) for name in found[0]})


def test_an_epoch_has_each_datum_once(make: Make, store: Path) -> None:
    data = make(store, "train")
    whole = _all(data.blocks(50))
    assert len(whole) == len(data)
    batches = list(data.epoch(7, 2, 64))
    assert len(batches) == data.steps(64) == -(-len(data) // 64)
    expected = order(7, 2, len(data), BLOCK, WINDOW)
    for step, batch in enumerate(batches):
        assert len(batch) == 64
        rows = expected[step * 64 : (step + 1) * 64]
        assert batch.weight is not None
        padding = 64 - len(rows)
        before = expected[(step - 1) * 64 : step * 64]  # each at its place there
        filled = whole[torch.from_numpy(np.concatenate([rows, before[len(rows) :]]) if padding else rows)]
        weight = filled.weight * (torch.arange(64) < len(rows))
        assert _equal(batch, Batch(filled.x, filled.context, filled.target, weight))
        assert padding == 0 or step == len(batches) - 1


def test_all_kinds_agree(store: Path) -> None:
    for split in ("train", "valid", None):
        kinds = [make(store, split) for make in KINDS.values()]
        for drawn in zip(*(kind.epoch(3, 1, 24) for kind in kinds), strict=True):
            assert all(_equal(drawn[0], other) for other in drawn[1:])
        for drawn in zip(*(kind.blocks(37) for kind in kinds), strict=True):
            assert all(_equal(drawn[0], other) for other in drawn[1:])


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_share_each_batch(make: Make, store: Path, ranks: int) -> None:
    data = make(store, "train")
    whole = list(data.epoch(7, 2, 64))
    parts = [list(data.epoch(7, 2, 64, rank=rank, ranks=ranks)) for rank in range(ranks)]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert all(len(share) == 64 // ranks for share in shares)
        assert _equal(batch, _all(iter(shares)))


@pytest.mark.parametrize("start", [0, 1, 3, 4, 5, 6, 99])
def test_an_epoch_goes_on_from_any_batch(make: Make, store: Path, start: int) -> None:
    data = make(store, "train")
    whole = list(data.epoch(7, 2, 64))
    rest = list(data.epoch(7, 2, 64, start=start))
    assert len(rest) == max(0, len(whole) - start)
    assert all(_equal(one, other) for one, other in zip(whole[start:], rest, strict=True))


def test_epochs_and_seeds_differ_and_repeat(make: Make, store: Path) -> None:
    data = make(store, "train")
    first = next(data.epoch(0, 0, 64))
    assert _equal(first, next(data.epoch(0, 0, 64)))
    assert not _equal(first, next(data.epoch(0, 1, 64)))
    assert not _equal(first, next(data.epoch(1, 0, 64)))


def test_the_example_shows_names_and_shapes(make: Make, store: Path) -> None:
    data = make(store, "train")
    batch = next(data.epoch(0, 0, 16))
    assert {k: (v.shape[1:], v.dtype) for k, v in data.example.tensors().items()} == {
        k: (v.shape[1:], v.dtype) for k, v in batch.tensors().items()
    }
    assert set(batch.context) >= {"condition", "noise"}
    assert batch.target is not None
    assert batch.target.shape == (16, 1)


def test_values_are_scaled_and_the_noise_too(make: Make, stores: dict[str, Path]) -> None:
    ds = open_store(stores["shuffled"]).load()
    scaling = Scaling.of(ds)
    batch = _all(make(stores["shuffled"], None).blocks(100))
    assert torch.allclose(batch.x, torch.from_numpy(scaling.apply("x", ds["x"].values)), equal_nan=True)
    assert torch.allclose(batch.context["noise"], torch.from_numpy(scaling.noise(ds["noise"].values)))
    assert torch.allclose(batch.weight, torch.from_numpy(ds["weight"].values))
    assert batch.context["condition"].dtype == torch.float32
    train = _all(make(stores["shuffled"], "train").blocks(100))
    assert torch.allclose(torch.nanmean(train.x, 0), torch.zeros(4), atol=1e-5)


def test_what_does_not_fit_is_refused(make: Make, store: Path) -> None:
    data = make(store, "train")
    with pytest.raises(
        InputError, match=f"the batch of 1000 rows is larger than the data .{len(data)} rows.:"
    ):
        data.epoch(0, 0, 1000)
    with pytest.raises(InputError, match="64 rows cannot be shared by 3 ranks"):
        data.epoch(0, 0, 64, ranks=3)
    with pytest.raises(InputError, match="rank 2 of 2"):
        data.epoch(0, 0, 64, rank=2, ranks=2)
    with pytest.raises(InputError, match="at least 1"):
        data.epoch(0, 0, 0)
    with pytest.raises(InputError, match="unknown split 'trian'"):
        make(store, "trian")


def test_an_epoch_left_early_leaves_no_thread(make: Make, store: Path) -> None:
    before = threading.active_count()
    data = make(store, "train")
    for _ in range(3):
        batches = data.epoch(0, 0, 16)
        next(batches)
        batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


# ---- the order


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 9), st.integers(0, 99), st.integers(0, 9))
def test_the_order_is_a_permutation(n: int, block: int, window: int, seed: int, epoch: int) -> None:
    found = order(seed, epoch, n, block, window)
    assert sorted(found.tolist()) == list(range(n))
    assert np.array_equal(found, order(seed, epoch, n, block, window))


@given(st.integers(2, 200), st.integers(1, 64), st.integers(1, 4), st.integers(0, 20))
def test_ranks_and_starts_partition_any_epoch(n: int, share: int, ranks: int, start: int) -> None:
    size = share * ranks
    data = InMemory(torch.arange(float(n))[:, None])
    if size > n:
        with pytest.raises(InputError, match="larger than the data"):
            data.epoch(0, 0, size)
        return
    seen: list[float] = []
    for step in range(start, data.steps(size)):
        for rank in range(ranks):
            batch: Any = next(data.epoch(5, 1, size, start=step, rank=rank, ranks=ranks))
            seen += batch.x[batch.weight > 0, 0].tolist()
    assert seen == order(5, 1, n)[start * size :].tolist()


# ---- where batches come from


def test_tensors_batches_and_arrays(table: Table) -> None:
    x = torch.randn(10, 3)
    assert _equal(next(as_batches(x).blocks(10)), Batch(x, weight=torch.ones(10)))
    batch = Batch({"a": x, "b": x + 1}, context={"condition": x}, weight=torch.rand(10))
    assert _equal(next(as_batches(batch).blocks(10)), batch)
    drawn: Any = next(as_batches(batch).epoch(0, 0, 5))
    assert torch.equal(drawn.x["b"], drawn.x["a"] + 1)
    assert torch.equal(drawn.context["condition"], drawn.x["a"])
    data = as_batches(x.numpy())
    assert as_batches(data) is data
    integers: Any = as_batches(np.arange(6).reshape(3, 2)).example
    assert integers.x.dtype == torch.int64
    with pytest.raises(InputError, match="cannot make batches of list"):
        as_batches([1, 2])
    with pytest.raises(InputError, match="needs prepared data"):
        as_batches(x, "train")
    with pytest.raises(InputError, match="no rows"):
        as_batches(x[:0])
    with pytest.raises(InputError, match="'x' is NaN everywhere"):
        as_batches(x * torch.nan)


def test_prepared_data_that_is_wrong(table: Table, tmp_path: Path) -> None:
    ds = table(300)
    with pytest.raises(InputError, match="split 'valid' is empty"):
        as_batches(ds.isel(sample=ds["split"].values != 1), "valid")
    with pytest.raises(InputError, match="'x' is NaN everywhere"):
        as_batches(ds.assign(x=ds["x"].where(ds["split"] > 0)), "train")
    few = ds.isel(sample=[0, 1])
    assert len(as_batches(few.assign(x=few["x"] * np.nan), some=True)) == 2
    with pytest.raises(InputError, match="leakage"):
        as_batches(ds.assign_coords(group=ds["group"] * 0), "train")
    with pytest.raises(InputError, match="no variable 'x'"):
        as_batches(ds.drop_vars("x"), "train")
    with pytest.raises(InputError, match="dimension 'sample'"):
        as_batches(ds.rename(sample="n"), "train")
    with pytest.raises(InputError, match="no prepared data at"):
        as_batches(tmp_path / "none.zarr", "train")


def test_large_data_streams_from_its_store(stores: dict[str, Path]) -> None:
    assert isinstance(as_batches(stores["shuffled"], "train", memory_limit=100), Streaming)
    ds = open_store(stores["shuffled"])
    streaming = as_batches(ds, "train", memory_limit=100)
    assert isinstance(streaming, Streaming)
    assert len(streaming) == (ds["split"].values == 0).sum()
    with pytest.raises(InputError, match="no longer the store it came from"):
        as_batches(ds.isel(sample=slice(100)), None, memory_limit=100)


def test_streaming_holds_two_windows_only(table: Table, tmp_path: Path) -> None:
    """8 MiB of rows through 1 MiB of buffers, under a count of what is allocated."""
    import tracemalloc

    x = np.random.default_rng(0).normal(size=(32_768, 64)).astype("f4")
    write(xr.Dataset({"x": (("sample", "variable"), x)}), tmp_path / "a.zarr", chunk_rows=256)
    data = Streaming(tmp_path / "a.zarr", buffer_bytes=1 << 20)
    assert data.window == 8
    tracemalloc.start()
    rows = sum(len(batch) for batch in data.epoch(0, 0, 256))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 32_768
    assert peak < 1.5 * (1 << 20)


def test_a_reading_error_reaches_the_caller(stores: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    shutil.copytree(stores["shuffled"], tmp_path / "a.zarr")
    data = Streaming(tmp_path / "a.zarr", "train", window=2)
    (shard,) = (tmp_path / "a.zarr" / "x" / "c").rglob("0/0")
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(Exception, match="cut short"):
        list(data.epoch(0, 0, 16))


def test_compiled_code_does_not_recompile_for_any_batch_of_an_epoch() -> None:
    import torch._dynamo.testing as testing

    shapes = {
        (tuple(v.shape), v.stride(), v.dtype, v._is_view())
        for batch in InMemory(Batch(torch.randn(1000, 3), context={"condition": torch.randn(1000, 1)})).epoch(
            0, 0, 64
        )
        for v in batch.tensors().values()
    }
    assert shapes == {
        ((64, 3), (3, 1), torch.float32, False),
        ((64, 1), (1, 1), torch.float32, False),
        ((64,), (1,), torch.float32, False),
    }
    torch._dynamo.reset()
    counter = testing.CompileCounter()
    compiled = torch.compile(lambda x, w: (x * w[:, None]).sum(), backend=counter)
    for batch in InMemory(torch.randn(1000, 3)).epoch(0, 0, 64):
        compiled(batch.x, batch.weight)
    assert counter.frame_count == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda ds: ds.assign(x=ds["x"] * 0 + 5),
        lambda ds: ds.drop_vars("noise"),
        lambda ds: ds.isel(sample=slice(0, 400)),
    ],
)
def test_data_that_are_no_longer_those_of_their_store_are_not_streamed_from_it(
    stores: dict[str, Path], change: Callable[[xr.Dataset], xr.Dataset]
) -> None:
    changed = change(open_store(stores["shuffled"]))
    as_batches(changed, "train")
    with pytest.raises(InputError, match="no longer the store it came from"):
        as_batches(changed, "train", memory_limit=0)


def test_the_noise_of_a_named_field_is_scaled_with_it(table: Table, tmp_path: Path) -> None:
    plain, named = table(), table().rename(x="flux").assign_attrs(fields=["flux"])
    found = [as_batches(write(ds, tmp_path / f"{n}.zarr")) for n, ds in enumerate((plain, named))]
    assert torch.equal(found[0].example.context["noise"], found[1].example.context["noise"])
    streamed = as_batches(tmp_path / "1.zarr", memory_limit=0).example.context["noise"]
    assert torch.equal(streamed, found[1].example.context["noise"])


def test_a_target_that_is_missing_in_one_part_stops_nobody_else(table: Table, tmp_path: Path) -> None:
    ds = table()
    stored = write(ds.assign(target=ds["target"].where(ds["split"] != 2)), tmp_path / "a.zarr")
    assert as_batches(stored, "test").example.target.isnan().all()
