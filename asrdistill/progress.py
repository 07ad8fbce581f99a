"""Progress on long work: a bar on a terminal, now and then a plain line in a log."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

LOG_INTERVAL_S = 20.0


def say(message: str) -> None:
    """Print one line for the user, above any progress bar that is being drawn."""
    with tqdm.external_write_mode(file=sys.stderr):
        print(message, file=sys.stderr, flush=True)


def track(
    items: Iterable[Item], what: str, total: int | None = None, unit: str = "utterance"
) -> Iterator[Item]:
    """Yield the items, showing how far the work is, its speed and the time left."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        yield from tqdm(items, desc=f"  {what}", total=total, unit=unit, dynamic_ncols=True, leave=False)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= LOG_INTERVAL_S:
            last = now
            share = f" of {total} ({100 * done / total:.0f}%)" if total else ""
            say(f"  {what}: {done}{share} {unit}s, {done / (now - start):.1f}/s")
