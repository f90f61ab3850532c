"""Edges of a triangle mesh and the two faces at each, cached per connectivity."""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary


class Edges(NamedTuple):
    """The undirected edges of a mesh, each once.

    `vertices`: both ends, the lower index first. `faces`: the two faces at each edge, the second -1 on a boundary.
    `opposite`: for each of these faces its vertex that is not on the edge (of no meaning where the face is -1).
    All three have their columns contiguous in memory, as they are read column by column.
    """

    vertices: Int[Tensor, "e 2"]
    faces: Int[Tensor, "e 2"]
    opposite: Int[Tensor, "e 2"]
    closed: bool
    """Whether there is no boundary."""


_cache = WeakTensorKeyDictionary()


def mesh_edges(faces: Int[Tensor, "f 3"]) -> Edges:
    """The edges of a mesh, on the device of `faces`. An edge shared by more than two faces keeps the first two.

    The result is cached on the tensor object, which must not be modified afterwards; it goes when the tensor does.
    """
    if faces not in _cache:
        _cache[faces] = _build(faces)
    return _cache[faces]


def _build(faces: Int[Tensor, "f 3"]) -> Edges:
    # Half edge 3 i + j is the j-th of face i; with its lower end first both halves of an edge are equal.
    half = faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2).sort(dim=1).values
    opposite = faces[:, [2, 0, 1]].reshape(-1)
    vertices, edge = half.unique(dim=0, return_inverse=True)
    # Half edges sorted by edge: an edge's first half and, if the next is of the same edge, its second. The sort is
    # stable, so that these are the halves of the faces with the lowest indices.
    order = edge.argsort(stable=True)
    starts = torch.searchsorted(edge[order].contiguous(), torch.arange(len(vertices), device=faces.device))
    first = order[starts]
    second = order[(starts + 1).clamp(max=len(order) - 1)]
    paired = (edge[second] == torch.arange(len(vertices), device=faces.device)) & (second != first)
    second = torch.where(paired, second, -1)
    return Edges(
        vertices.T.contiguous().T,
        torch.stack([first // 3, second // 3]).T,  # rounded down, so that -1 stays -1
        torch.stack([opposite[first], opposite[second]]).T,
        closed=bool(paired.all()),
    )
