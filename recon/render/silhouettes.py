"""The edges of a mesh in a picture where its surface turns away."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon.render.edges import mesh_edges
from recon.render.rasterize import NEAR, OnScreen, outside


class Silhouettes(NamedTuple):
    """The view of each, the vertices at both ends, where these are on the screen (x, y, depth), and the third corner
    of the face that is seen (x, y)."""

    view: Int[Tensor, " k"]
    ends: Int[Tensor, "2 k"]
    points: Float[Tensor, "3 2 k"]
    inner: Float[Tensor, "2 k"]


@torch.no_grad()
def silhouettes(faces: Int[Tensor, "f 3"], screen: OnScreen, height: int, width: int) -> Silhouettes:
    """The edges that may reach into the pictures, between a face seen from outside and one from inside or none."""
    edges = mesh_edges(faces)
    sides = edges.faces.T if edges.closed else edges.faces.T.clamp(min=0)
    first, second = outside(screen.area.index_select(1, sides.flatten())).chunk(2, dim=1)
    if not edges.closed:
        second = second & (edges.faces[:, 1] >= 0)
    turning = (first != second).flatten().nonzero().squeeze(1)
    view = torch.div(turning, len(edges.vertices), rounding_mode="floor")
    edge = turning - view * len(edges.vertices)
    of_first, of_second = edges.opposite.T.index_select(1, edge)
    opposite = torch.where(first.flatten().index_select(0, turning), of_first, of_second)
    corners = torch.cat([edges.vertices.T.index_select(1, edge), opposite[None]])
    points = screen.points.flatten(1).index_select(1, (view * screen.points.shape[2] + corners).flatten())
    (left, above, nearest), (right, below, _) = points.view(3, 3, -1)[:, :2].aminmax(dim=1)
    kept = ((right >= 0) & (left <= width) & (below >= 0) & (above <= height) & (nearest > NEAR)).nonzero().squeeze(1)
    points = points.view(9, -1).index_select(1, kept).view(3, 3, -1)
    ends = corners[:2].index_select(1, kept)
    return Silhouettes(view.index_select(0, kept), ends, points[:, :2], points[:2, 2])
