"""What kernels know of a mesh's connectivity, in 32-bit integers, cached per tensor of faces."""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from recon.render.edges import mesh_edges


class Incidence(NamedTuple):
    """At which places each vertex stands in a list of vertices: `places[starts[i] : starts[i + 1]]`, ascending."""

    starts: Int[Tensor, " _"]
    places: Int[Tensor, " m"]


class Topology(NamedTuple):
    """A mesh's connectivity.

    corners: of the faces, corner by corner. at_corners: where each vertex stands in these, flattened.
    ends: of the edges, end by end. at_ends: where each vertex stands in these, flattened.
    beside, opposite: the two faces at each edge, -1 where there is none, and of each its third corner.
    """

    corners: Int[Tensor, "3 f"]
    at_corners: Incidence
    ends: Int[Tensor, "2 e"]
    at_ends: Incidence
    beside: Int[Tensor, "2 e"]
    opposite: Int[Tensor, "2 e"]


_cache = WeakTensorKeyDictionary()


def topology(faces: Int[Tensor, "f 3"], vertices: int) -> Topology:
    """The connectivity of a mesh of that many vertices, on the device of `faces`.

    The result is cached on the tensor object, which must not be modified afterwards; it goes when the tensor does.
    """
    known = _cache.get(faces)
    if known is None or len(known.at_corners.starts) != vertices + 1:
        known = _cache[faces] = _build(faces, vertices)
    return known


def _build(faces: Int[Tensor, "f 3"], vertices: int) -> Topology:
    edges = mesh_edges(faces)
    corners, ends, beside, opposite = (
        columns.T.to(torch.int32).contiguous() for columns in (faces, edges.vertices, edges.faces, edges.opposite)
    )
    return Topology(corners, incidence(corners, vertices), ends, incidence(ends, vertices), beside, opposite)


def incidence(index: Int[Tensor, "k m"], vertices: int) -> Incidence:
    """Where each vertex stands in a list, flattened."""
    flat = index.flatten().long()
    order = flat.argsort(stable=True)
    starts = torch.searchsorted(flat[order], torch.arange(vertices + 1, device=flat.device))
    return Incidence(starts.to(torch.int32), order.to(torch.int32))
