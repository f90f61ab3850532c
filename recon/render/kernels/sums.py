"""Sums at vertices of what their corners or edges have, in a fixed order.

`index_add_` on a GPU adds in the order in which threads come, and rounds differently in every run.
"""

from typing import no_type_check

import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from recon.render.kernels.topology import Incidence

BLOCK = 128


def sums_at(values: Float[Tensor, "n c m"], at: Incidence) -> Float[Tensor, "c v"]:
    """Of each vertex, the sum over `n` and over the places where it stands among the `m`."""
    views, channels, places = values.shape
    vertices = len(at.starts) - 1
    sums = values.new_empty(channels, vertices)
    grid = (triton.cdiv(vertices, BLOCK), channels)
    _sums_at[grid](values, at.starts, at.places, sums, vertices, places, views, BLOCK=BLOCK)
    return sums


@triton.jit
@no_type_check
def _sums_at(values, starts, places, sums, vertices, count, views, BLOCK: tl.constexpr):
    vertex = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    channel, channels = tl.program_id(1), tl.num_programs(1)
    there = vertex < vertices
    start = tl.load(starts + vertex, mask=there, other=0)
    end = tl.load(starts + vertex + 1, mask=there, other=0)
    total = tl.zeros((BLOCK,), tl.float32)
    most = tl.max(end - start, axis=0)
    i = 0
    while i < most:
        here = start + i < end
        place = tl.load(places + start + i, mask=here, other=0)
        view = 0
        while view < views:
            row = (view * channels + channel).to(tl.int64) * count
            total += tl.load(values + row + place, mask=here, other=0.0)
            view += 1
        i += 1
    tl.store(sums + channel.to(tl.int64) * vertices + vertex, total, mask=there)
