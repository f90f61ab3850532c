"""A field as grids of values over contracted space, whose sum it is: fast on a CPU."""

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recon.background.contraction import RADIUS

COARSER = 3
"""How much coarser the second grid is."""


class GridField(nn.Module):
    """A trilinear grid of `resolution` cells along each axis, and a coarser one.

    The coarse one spreads what images say over whole neighbourhoods, from the first iteration on; the
    fine one adds detail. Both are there from the start, so that a run can stop and go on anywhere.
    """

    def __init__(self, resolution: int, start: Float[Tensor, " c"]) -> None:
        super().__init__()
        self.sizes = (max(resolution // COARSER, 2), resolution)
        coarse, fine = (torch.zeros(size**3, len(start)) for size in self.sizes)
        self.grids = nn.ParameterList([coarse + start, fine])

    def forward(self, points: Float[Tensor, "s 3"]) -> Float[Tensor, "s c"]:
        coarse, fine = (interpolate(g, size, points) for g, size in zip(self.grids, self.sizes, strict=True))
        return coarse + fine

    def total_variation(self, count: int, generator: torch.Generator) -> Float[Tensor, ""]:
        """Mean absolute difference of neighbouring cells, estimated from `count` random cells of each grid."""
        parts = [_total_variation(g, size, count, generator) for g, size in zip(self.grids, self.sizes, strict=True)]
        return torch.stack(parts).sum()


def _total_variation(
    rows: Float[Tensor, "cells c"], size: int, count: int, generator: torch.Generator
) -> Float[Tensor, ""]:
    # Not the last of a row: what follows it in memory is the other end of the grid.
    x, y, z = torch.randint(size - 1, (3, count), generator=generator)
    cell = (x * size + y) * size + z
    steps = torch.tensor([0, 1, size, size**2])
    here, *beside = rows.index_select(0, (cell + steps[:, None]).flatten().to(rows.device)).chunk(4)
    return torch.stack([(values - here).abs().mean() for values in beside]).sum()


def interpolate(rows: Float[Tensor, "cells c"], size: int, points: Float[Tensor, "s 3"]) -> Float[Tensor, "s c"]:
    """Trilinear interpolation at contracted points; `rows` are cells in row-major order.

    Rows keep the channels of a corner together in memory, which `grid_sample` does not.
    """
    where = (points + RADIUS) * ((size - 1) / (2 * RADIUS))
    first = where.floor().clamp(0, size - 2)
    x, y, z = first.long().unbind(1)
    corners = [(i * size + j) * size + k for i, j, k in itertools.product((0, 1), repeat=3)]
    index = ((x * size + y) * size + z)[:, None] + torch.tensor(corners, device=points.device)
    part = where - first
    x, y, z = torch.stack([1 - part, part], dim=2).unbind(1)
    weights = (x[:, :, None, None] * y[:, None, :, None] * z[:, None, None, :]).flatten(1)
    values = rows.index_select(0, index.flatten()).view(len(points), 8, rows.shape[1])
    # Not as a product of matrices: so small and so many, their backward pass costs four times as much.
    return (weights[..., None] * values).sum(1)
