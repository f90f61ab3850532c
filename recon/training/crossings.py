"""The last part of a training: triangles of the mesh that cross are parted.

The flow of a smooth field carries no two points to one place, but straight triangles between carried points may still
cross where two sheets nearly touch. The mesh that will be written is looked at from time to time, and what crosses
there is pushed apart through the flow's parameters, so that the mesh stays the image of the sphere.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon.geometry.self_intersection import self_intersections
from recon.model.model import Model
from recon.surface.icosphere import icosphere

LOOKS = (0.9, 0.925, 0.95, 0.975, 0.99)
"""Fractions of a run at which the mesh is looked at: late enough that shapes are settled, and seldom, for a look at
a fine mesh takes as long as some iterations."""

GAP = 0.01
"""How far apart crossing triangles are pushed, relative to their extent."""

MOST = 20_000
"""Pairs of a look that are kept: of a mesh that crosses everywhere a part, so that an iteration stays an iteration."""


class Crossings:
    """Pairs of faces of the exported mesh that cross, or did at an earlier look."""

    def __init__(self) -> None:
        self.pairs: Int[Tensor, "p 2"] = torch.empty(0, 2, dtype=torch.long)
        self.looks = 0
        # The points of the sphere that are carried, and which of them each pair's faces have, until the next look.
        self._corners: tuple[Float[Tensor, "u 3"], Int[Tensor, "p 2 3"]] | None = None

    def look(self, model: Model, fraction: float) -> None:
        """Look for crossing faces where it is time to."""
        due = sum(fraction >= at for at in LOOKS)
        if due <= self.looks:
            return
        self.looks = due
        with torch.no_grad():
            vertices, faces, _ = model.mesh(model.export_level)
        found = torch.from_numpy(self_intersections(vertices.cpu().numpy(), faces.cpu().numpy()))
        self.pairs = torch.cat([self.pairs, found[:: len(found) // MOST + 1]]).unique(dim=0)
        self._corners = None

    def loss(self, model: Model) -> Float[Tensor, ""]:
        """`crossing_loss` of the pairs as the flow carries them now; only their vertices are carried."""
        if self._corners is None:
            points, faces = icosphere(model.export_level, model.device)
            used, place = faces[self.pairs.to(model.device)].flatten(1).unique(return_inverse=True)
            self._corners = points[used], place.view(-1, 2, 3)
        points, place = self._corners
        return crossing_loss(model.flow().trajectory(points)[-1][place])

    def state_dict(self) -> dict[str, Any]:
        return {"pairs": self.pairs, "looks": self.looks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.pairs, self.looks = state["pairs"], state["looks"]
        self._corners = None


def crossing_loss(triangles: Float[Tensor, "p 2 3 3"]) -> Float[Tensor, ""]:
    """Mean depth by which pairs of triangles (pair, triangle, corner, coordinate) overlap, relative to their extent.

    The depth is that along the axis on which they overlap least, of the two normals and the nine cross products of
    their edges (separating axes, Gottschalk et al. 1996); moving apart by it along that axis parts them. Pairs that
    are `GAP` apart, or share what they touch with, have none.
    """
    with torch.no_grad():
        axes = _separating_axes(triangles)
        depths = _overlap(triangles, axes)
        nearest = depths.argmin(dim=1, keepdim=True)[..., None].expand(-1, -1, 3)
        axis = axes.gather(1, nearest)
        corners = triangles.flatten(1, 2)
        extent = (corners.amax(dim=1) - corners.amin(dim=1)).amax(dim=1)
    depth = _overlap(triangles, axis)[:, 0]
    return ((depth / extent + GAP).clamp(min=0)).mean()


def _separating_axes(triangles: Float[Tensor, "p 2 3 3"]) -> Float[Tensor, "p 11 3"]:
    """Unit vectors; where edges are parallel, and tell no axis, the normal of the first triangle."""
    edges = triangles.roll(-1, dims=2) - triangles
    normals = torch.linalg.cross(edges[:, :, 0], edges[:, :, 1])
    first, second = edges.unbind(1)
    products = torch.linalg.cross(first[:, :, None], second[:, None])
    axes = torch.cat([normals, products.flatten(1, 2)], dim=1)
    length = axes.norm(dim=2, keepdim=True)
    fallback = torch.nn.functional.normalize(normals[:, :1], dim=2).expand_as(axes)
    tiny = 1e-6 * length.amax(dim=1, keepdim=True)
    return torch.where(length > tiny, axes / length.clamp(min=1e-30), fallback)


def _overlap(triangles: Float[Tensor, "p 2 3 3"], axes: Float[Tensor, "p a 3"]) -> Float[Tensor, "p a"]:
    """Lengths of the intervals that have to be moved for the triangles' projections to part; negative where apart."""
    along = torch.einsum("ptci,pai->ptac", triangles, axes)
    low, high = along.amin(dim=3), along.amax(dim=3)
    return torch.minimum(high[:, 0] - low[:, 1], high[:, 1] - low[:, 0])
