"""Items on several threads: in order, few ahead of time, each on one core."""

import os
import subprocess
import sys
import threading

import numba
import pytest
import torch

from asrdistill.parallel import WAITING_A_WORKER, map_in_order

# A parallel loop of numba's, entered by several threads.
PROGRAM = """
import numpy as np
from asrdistill.nn.softmax_loops import softmax_in_place
from asrdistill.parallel import map_in_order
def make_rows(number):
    rows = np.full((2000, 50), number, np.float32)
    softmax_in_place(rows)
    return rows.sum()
assert np.allclose(list(map_in_order(make_rows, range(40), 4)), 2000)
"""


@pytest.mark.parametrize("num_workers", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(num_workers: int) -> None:
    """Also where a later one is ready first."""
    later = threading.Event()

    def square(number: int) -> int:
        if number == 0 and num_workers > 1:
            assert later.wait(60)
        if number == 1:
            later.set()
        return number**2

    assert list(map_in_order(square, range(50), num_workers)) == [number**2 for number in range(50)]


@pytest.mark.parametrize("num_workers", [1, 3])
def test_few_items_are_drawn_before_they_are_asked_for(num_workers: int) -> None:
    drawn: list[int] = []
    items = (drawn.append(number) or number for number in range(1000))
    results = map_in_order(str, items, num_workers)
    assert next(results) == "0"
    assert len(drawn) <= WAITING_A_WORKER * num_workers + 1
    results.close()


@pytest.mark.parametrize("num_workers", [1, 3])
def test_an_error_reaches_who_asks(num_workers: int) -> None:
    with pytest.raises(ZeroDivisionError):
        list(map_in_order(lambda number: 1 / number, [3, 2, 1, 0, 1], num_workers))


def test_every_thread_computes_on_one_core_and_the_caller_as_before() -> None:
    def ask(_: int) -> tuple[int, int]:
        return torch.get_num_threads(), numba.get_num_threads()

    before = ask(0)
    assert set(map_in_order(ask, range(20), 3)) == {(1, 1)}
    assert ask(0) == before


@pytest.mark.parametrize("layer", ["workqueue", "default"])
def test_numbas_loops_in_threads_end_no_process(layer: str) -> None:
    """Its own pool does so where two threads are in it."""
    environment = {**os.environ, "NUMBA_THREADING_LAYER": layer}
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True, timeout=300)
