"""The edges of a mesh in a picture where its surface turns away.

A point of a smooth surface is on a silhouette where its normal is perpendicular to the line of sight. A mesh has a
silhouette at each edge between a face seen from outside and one seen from inside, and at a border of what is seen. The
signed areas of the faces on the screen tell the two apart; the rasteriser has them already.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon.render.edges import mesh_edges
from recon.render.rasterize import NEAR, OnScreen, outside


class Silhouettes(NamedTuple):
    """Edges in pictures: the same edge counts once for each view in which it is a silhouette.

    view: the camera. ends: the vertices at both ends. points: where these are on the screen, (x, y, depth) by end,
    in pixels and units of the world. inner: (x, y) of the third corner of the face that is seen from outside, which
    says on which side of the edge the surface is.
    """

    view: Int[Tensor, " k"]
    ends: Int[Tensor, "2 k"]
    points: Float[Tensor, "3 2 k"]
    inner: Float[Tensor, "2 k"]


@torch.no_grad()
def silhouettes(faces: Int[Tensor, "f 3"], screen: OnScreen, height: int, width: int) -> Silhouettes:
    """The edges between a face seen from outside and one seen from inside or none, if they may reach into the pictures.

    Whether something else hides them is not looked at: `antialias` knows from the depths beside them.

    Args:
        faces: of the mesh; cached on this tensor (`mesh_edges`).
        screen: the mesh in `n` cameras.
        height, width: of the pictures, in pixels.
    """
    edges = mesh_edges(faces)
    # A border has no second face (-1), for which any face may be asked, as the answer is put right below. A closed
    # mesh, as every training has, is spared both steps.
    sides = edges.faces.T if edges.closed else edges.faces.T.clamp(min=0)
    first, second = outside(screen.area.index_select(1, sides.flatten())).chunk(2, dim=1)
    if not edges.closed:
        second = second & (edges.faces[:, 1] >= 0)
    # Flat indices into (view, edge): few are left, and everything below is for these alone.
    turning = (first != second).flatten().nonzero().squeeze(1)
    view = torch.div(turning, len(edges.vertices), rounding_mode="floor")
    edge = turning - view * len(edges.vertices)
    of_first, of_second = edges.opposite.T.index_select(1, edge)
    opposite = torch.where(first.flatten().index_select(0, turning), of_first, of_second)
    corners = torch.cat([edges.vertices.T.index_select(1, edge), opposite[None]])
    # Both ends and the third corner of all chosen edges in one gathering: (coordinate, corner, edge).
    points = screen.points.flatten(1).index_select(1, (view * screen.points.shape[2] + corners).flatten())
    (left, above, nearest), (right, below, _) = points.view(3, 3, -1)[:, :2].aminmax(dim=1)
    # The box around both ends. What it lets through meets the lines of the picture, or lies between two of them.
    kept = ((right >= 0) & (left <= width) & (below >= 0) & (above <= height) & (nearest > NEAR)).nonzero().squeeze(1)
    points = points.view(9, -1).index_select(1, kept).view(3, 3, -1)
    ends = corners[:2].index_select(1, kept)
    return Silhouettes(view.index_select(0, kept), ends, points[:, :2], points[:2, 2])
