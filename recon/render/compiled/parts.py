"""Work on parts, side by side on as many threads as torch has: compiled loops release the interpreter's lock."""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import torch

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")


def side_by_side(work: Callable[[_Part], _Result], parts: Sequence[_Part]) -> list[_Result]:
    """What `work` returned of each part, in their order."""
    threads = min(torch.get_num_threads(), len(parts))
    return [work(part) for part in parts] if threads <= 1 else list(_threads(threads).map(work, parts))


def equal_parts(count: int, parts: int) -> list[slice]:
    """`count` things cut into as many parts, as equal as can be."""
    return [slice(*ends) for ends in pairwise(count * part // parts for part in range(parts + 1))]


@functools.cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="recon-part")
