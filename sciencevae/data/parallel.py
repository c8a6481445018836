"""Blocks of rows through several processes, in order, never more of them in memory than are worked on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from itertools import chain, islice
from multiprocessing import get_context
from typing import Any, TypeVar

__all__ = ["blocks_of", "client", "streamed"]

Block = TypeVar("Block")
Result = TypeVar("Result")


def blocks_of(things: Iterable[Block], size: int) -> Iterator[list[Block]]:
    """Lists of ``size`` of them in order, the last one shorter.

    >>> list(blocks_of("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    remaining = iter(things)
    while block := list(islice(remaining, size)):
        yield block


def streamed(
    function: Callable[..., Result], blocks: Iterable[Block], *arguments: Any
) -> Iterator[tuple[Block, Result]]:
    """Each block and ``function(block, *arguments)`` of it, in order, by Dask.

    As many processes as ``dask.config`` says in ``num_workers``, else as this process may use; with one of them or
    a single block, all is done here. A distributed Dask client that is open is used. Processes import the main
    module anew: a script that calls this keeps what it does below ``if __name__ == "__main__"``.
    """
    import dask

    remaining = iter(blocks)
    first = list(islice(remaining, 2))
    cluster = client()
    if cluster is not None:
        workers = max(1, sum(cluster.ncores().values()))
    else:
        workers = dask.config.get("num_workers", None) or len(os.sched_getaffinity(0))
    if len(first) < 2 or (cluster is None and workers < 2):
        yield from ((block, function(block, *arguments)) for block in chain(first, remaining))
        return
    remaining = chain(first, remaining)
    run = dask.delayed(function, pure=False, traverse=False)
    pool = None if cluster else ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    with pool or nullcontext():
        local = {"scheduler": "processes", "pool": pool} if pool else {}
        for group in blocks_of(remaining, 4 * workers):
            results = dask.compute(*(run(block, *arguments) for block in group), **local)
            yield from zip(group, results, strict=True)


def client() -> Any:
    """The distributed Dask client that is open, whose workers compute in other processes; None without one."""
    distributed = sys.modules.get("distributed")  # who opened one has imported it
    try:
        return distributed.get_client() if distributed else None
    except ValueError:
        return None
