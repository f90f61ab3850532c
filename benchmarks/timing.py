"""Wall-clock time of calls, as the median over repetitions."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch


def median_milliseconds(call: Callable[[], object], repetitions: int = 30, warm_up: int = 5) -> float:
    return 1000 * statistics.median([_seconds(call) for _ in range(warm_up + repetitions)][warm_up:])


def medians_in_turn(calls: Sequence[Callable[[], object]], turns: int = 10, in_a_row: int = 8) -> list[float]:
    """Milliseconds of calls to be compared, taken in turn, so that what else the machine does slows all alike.

    A turn calls several times in a row, as a training does, and leaves out the first, which finds caches and heap
    as another call left them. The first turn warms up.
    """
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(1 + turns):
        for call, mine in zip(calls, times, strict=True):
            seconds = [_seconds(call) for _ in range(in_a_row)]
            mine += seconds[1:] if turn else []
    return [1000 * statistics.median(mine) for mine in times]


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start
