"""Wall-clock time of calls, as the median over repetitions."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch


def median_milliseconds(call: Callable[[], object], repetitions: int = 30, warm_up: int = 5) -> float:
    return medians_in_turn([call], repetitions, warm_up)[0]


def medians_in_turn(calls: Sequence[Callable[[], object]], repetitions: int = 60, warm_up: int = 5) -> list[float]:
    """Milliseconds of calls to be compared, taken in turn, so that what else the machine does slows all alike."""
    for _ in range(warm_up):
        for call in calls:
            call()
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repetitions):
        for call, mine in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            mine.append(time.perf_counter() - start)
    return [1000 * statistics.median(mine) for mine in times]
