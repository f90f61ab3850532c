"""Icospheres: near-uniform triangulations of the unit sphere."""

from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Icosphere(NamedTuple):
    """A triangulated unit sphere, outward counter-clockwise."""

    vertices: Float[Tensor, "v 3"]
    faces: Int[Tensor, "f 3"]


@lru_cache(maxsize=32)
def icosphere(level: int, device: torch.device | str = "cpu") -> Icosphere:
    """The icosahedron subdivided `level` times: 10 * 4^level + 2 vertices and 20 * 4^level faces.

    The first vertices of a level are those of the level below. The result is cached, so that a level
    has one faces tensor, by which `recon.render.edges` knows its edges again; do not modify it.
    """
    if torch.device(device).type != "cpu":
        return Icosphere(*(part.to(device) for part in icosphere(level)))
    if level == 0:
        return _icosahedron()
    coarse = icosphere(level - 1)
    corners = coarse.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2).sort(dim=1).values
    # An edge as one number, for which unique takes a tenth of the time that it takes for rows.
    numbers, midpoint = (corners[:, 0] * len(coarse.vertices) + corners[:, 1]).unique(return_inverse=True)
    edges = torch.stack([numbers // len(coarse.vertices), numbers % len(coarse.vertices)], dim=1)
    middles = coarse.vertices[edges].sum(dim=1)
    vertices = torch.cat([coarse.vertices, middles / middles.norm(dim=1, keepdim=True)])
    a, b, c = coarse.faces.unbind(1)
    ab, bc, ca = (midpoint.view(-1, 3) + len(coarse.vertices)).unbind(1)
    quarters = [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
    # In memory corner by corner, as the renderer gathers them.
    return Icosphere(vertices, torch.stack([torch.cat(corner) for corner in zip(*quarters, strict=True)]).T)


def _icosahedron() -> Icosphere:
    golden = (1 + 5**0.5) / 2
    signs = [(a, b * golden) for a in (-1.0, 1.0) for b in (-1.0, 1.0)]
    points = [p for a, b in signs for p in ((0.0, a, b), (a, b, 0.0), (b, 0.0, a))]
    vertices = torch.tensor(points, dtype=torch.float64)
    squared = torch.cdist(vertices, vertices) ** 2
    adjacent = (squared - 4).abs() < 1e-9  # the edge length of these coordinates is 2
    triples = [
        (i, j, k)
        for i in range(12)
        for j in range(i + 1, 12)
        for k in range(j + 1, 12)
        if adjacent[i, j] and adjacent[j, k] and adjacent[i, k]
    ]
    faces = torch.tensor(triples)
    a, b, c = vertices[faces].unbind(1)
    inward = (torch.linalg.cross(b - a, c - a) * a).sum(dim=1) < 0
    faces[inward] = faces[inward].flip(1)
    return Icosphere((vertices / vertices.norm(dim=1, keepdim=True)).float(), faces)
