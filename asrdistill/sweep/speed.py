"""How long networks take for a frame of speech."""

import time
from collections.abc import Mapping

from asrdistill.features.frame_store import FrameStore
from asrdistill.parallel import single_torch_thread
from asrdistill.scoring.systems import NetworkSystem

TIMED_FRAMES, NUM_ROUNDS = 5_000, 5


def time_systems(systems: Mapping[str, NetworkSystem], store: FrameStore) -> dict[str, float]:
    """Seconds for a frame of each, alone on one core, over the first utterances of a split.

    They take turns, and of several rounds the least counts: what else runs meanwhile slows down all alike.
    """
    utterances, count = [], 0
    for index in range(len(store)):
        if count < TIMED_FRAMES:
            utterances.append(store.frames_of(index))
            count += len(utterances[-1])
    least: dict[str, float] = {}
    with single_torch_thread():
        for _ in range(1 + NUM_ROUNDS):
            for name, system in systems.items():
                start = time.perf_counter()
                for frames in utterances:
                    system.score(frames)
                seconds = (time.perf_counter() - start) / count
                least[name] = min(seconds, least.get(name, seconds))
    return least
