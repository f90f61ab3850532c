"""Edges of a triangle mesh and the two faces at each, cached per connectivity."""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary


class Edges(NamedTuple):
    """Undirected edges; `faces` holds the two faces at each (the second is -1 on a boundary) and
    `opposite` the corner of each of these faces that is not on the edge. In memory column by column."""

    vertices: Int[Tensor, "e 2"]
    faces: Int[Tensor, "e 2"]
    opposite: Int[Tensor, "e 2"]
    closed: bool
    """Whether there is no boundary."""


_cache = WeakTensorKeyDictionary()


def mesh_edges(faces: Int[Tensor, "f 3"]) -> Edges:
    """The edges of a mesh. An edge shared by more than two faces keeps the first two.

    The result is cached on the tensor object, which must not be modified afterwards.
    """
    if faces not in _cache:
        _cache[faces] = _build(faces)
    return _cache[faces]


def _build(faces: Int[Tensor, "f 3"]) -> Edges:
    half = faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2).sort(dim=1).values
    opposite = faces[:, [2, 0, 1]].reshape(-1)
    vertices, edge = half.unique(dim=0, return_inverse=True)
    order = edge.argsort(stable=True)
    starts = torch.searchsorted(edge[order].contiguous(), torch.arange(len(vertices), device=faces.device))
    first = order[starts]
    second = order[(starts + 1).clamp(max=len(order) - 1)]
    paired = (edge[second] == torch.arange(len(vertices), device=faces.device)) & (second != first)
    second = torch.where(paired, second, -1)
    face_of = torch.where(second >= 0, second // 3, -1)
    return Edges(
        vertices.T.contiguous().T,
        torch.stack([first // 3, face_of]).T,
        torch.stack([opposite[first], opposite[second]]).T,
        closed=bool(paired.all()),
    )
