"""Items on all cores, each on one: numpy, torch and numba let go of Python's lock.

An operation that uses all cores leaves some idle at its end, and what runs between two such operations uses
one; threads that each do the whole of an item keep all of them busy.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import numba
import numpy as np

Item = TypeVar("Item")
Result = TypeVar("Result")

# Items a thread that may be computed before they are asked for.
WAITING_A_WORKER = 2


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], num_workers: int
) -> Iterator[Result]:
    """Yield what becomes of the items, in their order; few are drawn before they are needed.

    Threads compute on one core each, whatever torch and numba do elsewhere. With one worker, or where numba's
    parallel loops stand one thread alone, there are none, and items are computed as they are asked for.
    """
    if num_workers == 1 or not _may_share_numba():
        yield from map(function, items)
        return
    with single_torch_thread(), ThreadPoolExecutor(num_workers, initializer=_use_one_core) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > WAITING_A_WORKER * num_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def single_torch_thread() -> Iterator[None]:
    """Let torch compute on one thread: beside others its own would wait for one another."""
    import torch  # seconds; not for those who only import what may use this

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _use_one_core() -> None:
    import torch

    torch.set_num_threads(1)
    numba.set_num_threads(1)


@cache
def _may_share_numba() -> bool:
    """Whether numba's parallel loops may be entered by several threads at once.

    By default they may; numba's own pool, which is left where there is neither OpenMP nor TBB, would end the
    process.
    """
    _clear(np.ones(1))  # numba chooses at its first parallel loop
    return str(numba.threading_layer()) != "workqueue"


@numba.njit(cache=True, parallel=True, nogil=True)
def _clear(values: np.ndarray) -> None:
    for place in numba.prange(len(values)):
        values[place] = 0
