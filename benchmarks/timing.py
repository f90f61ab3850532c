"""Wall-clock time of a call, as the median over repetitions."""

import statistics
import time
from collections.abc import Callable

import torch


def median_milliseconds(call: Callable[[], object], repetitions: int = 30, warm_up: int = 5) -> float:
    for _ in range(warm_up):
        call()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)
