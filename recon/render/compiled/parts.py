"""Work on parts, side by side: compiled loops release the interpreter's lock.

Into how many parts work is cut never depends on how many threads there are, so that sums over parts do not, either.
"""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import numpy as np

from recon.processor import loop_threads

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")

MOST_SUMS = 8
"""Parts that have a sum of their own, where each is as large as what all share: as many threads may work at once."""


def side_by_side(work: Callable[[_Part], _Result], parts: Sequence[_Part]) -> list[_Result]:
    """What `work` returned of each part, in their order."""
    threads = min(loop_threads(), len(parts))
    return [work(part) for part in parts] if threads <= 1 else list(_threads(threads).map(work, parts))


def equal_parts(count: int, parts: int) -> list[slice]:
    """`count` things cut into as many parts, as equal as can be."""
    return [slice(*ends) for ends in pairwise(count * part // parts for part in range(parts + 1))]


def summed(sum_of: Callable[[slice], np.ndarray], parts: Sequence[slice]) -> np.ndarray:
    """The sum of what `sum_of` returned of the parts, of which there is one at least, in their order."""
    first, *others = side_by_side(sum_of, parts)
    for each in others:
        first += each
    return first


@functools.cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="recon-part")
