"""Analytic edge antialiasing: the coverage of boundary pixels, and with it the gradient of visibility.

After Laine et al. 2020, "Modular Primitives for High-Performance Differentiable Rendering", section
3.5: two neighbouring pixels that lie on either side of a silhouette are blended by where the
silhouette crosses the segment between their centres. There, pixel pairs look for an edge of the
triangle that they see, and find none where triangles are smaller than pixels. Here silhouette edges
look for the pixel pairs that they cross, which holds at any resolution of the mesh.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recon.camera import Cameras
from recon.render.edges import mesh_edges
from recon.render.rasterize import NEAR, OnScreen


class Crossings(NamedTuple):
    """Where silhouettes cross between the centres of neighbouring pixels.

    `near` and `far` are flat pixel indices on the surface's side and beyond it; `distance` in [0, 1]
    from the near centre to the crossing carries the gradient to the vertices.
    """

    near: Int[Tensor, " c"]
    far: Int[Tensor, " c"]
    distance: Float[Tensor, " c"]


def antialias(image: Float[Tensor, "n h w c"], crossings: Crossings) -> Float[Tensor, "n h w c"]:
    """Blend each pair of pixels so that either holds the box-filtered share of both colours."""
    flat = image.flatten(0, 2)
    near, far, distance = crossings
    # The border between the pair's pixels moves from 1/2 to `distance`: that share changes colour.
    change = (distance - 0.5)[:, None] * (flat.index_select(0, near) - flat.index_select(0, far))
    inside = (distance < 0.5)[:, None]
    flat = flat.index_add(0, near, torch.where(inside, change, 0))
    return flat.index_add(0, far, torch.where(inside, 0, change)).view(image.shape)


def find_crossings(
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    cameras: Cameras,
    screen: OnScreen,
    zbuf: Float[Tensor, "n h w"],
) -> Crossings:
    """All visible crossings of the mesh's silhouettes. `zbuf` is not positive where nothing is seen."""
    view, ends, opposite = _silhouettes(faces, screen, cameras.height, cameras.width)
    points = _project_pairs(vertices, cameras, view, ends)
    return _cross(points, screen.points[view, opposite, :2], view, zbuf)


@torch.no_grad()
def _silhouettes(
    faces: Int[Tensor, "f 3"], screen: OnScreen, height: int, width: int
) -> tuple[Int[Tensor, " k"], Int[Tensor, "k 2"], Int[Tensor, " k"]]:
    """View, ends, and the visible face's third corner, of each edge in a picture where the surface turns away."""
    edges = mesh_edges(faces)
    first_face, second_face = edges.faces.unbind(1)
    first = screen.front.index_select(1, first_face)
    second = screen.front.index_select(1, second_face.clamp(min=0)) & (second_face >= 0)
    view, edge = (first != second).nonzero(as_tuple=True)
    ends = edges.vertices[edge]
    x, y, depth = screen.points[view[:, None], ends].unbind(2)
    beside = (x < 0).all(1) | (x > width).all(1) | (y < 0).all(1) | (y > height).all(1)
    kept = ((depth > NEAR).all(1) & ~beside).nonzero().squeeze(1)
    view, edge = view[kept], edge[kept]
    side = torch.where(first[view, edge], 0, 1)
    return view, ends[kept], edges.opposite[edge, side]


def _project_pairs(
    vertices: Float[Tensor, "v 3"], cameras: Cameras, view: Int[Tensor, " k"], ends: Int[Tensor, "k 2"]
) -> Float[Tensor, "k 2 3"]:
    """Pixel coordinates and depth of both ends of each edge, with gradient."""
    points = vertices.index_select(0, ends.flatten()).view(-1, 2, 3)
    rotation = cameras.camera_to_world[:, :3, :3].index_select(0, view)
    local = (points - cameras.centers.index_select(0, view)[:, None]) @ rotation
    homogeneous = local @ cameras.intrinsics.index_select(0, view).transpose(1, 2)
    return torch.cat([homogeneous[..., :2] / local[..., 2:], local[..., 2:]], dim=-1)


def _cross(
    points: Float[Tensor, "k 2 3"], inner: Float[Tensor, "k 2"], view: Int[Tensor, " k"], zbuf: Float[Tensor, "n h w"]
) -> Crossings:
    """Crossings of edges, the flat ones with pairs one above the other, the steep ones with pairs side by side.

    Each edge meets the lines through pixel centres that run across it, rows or columns; the crossing lies
    between two centres of that line. Below, the first coordinate runs along these lines.
    """
    extent = (points[:, 1] - points[:, 0]).detach().abs()
    flat = extent[:, 0] > extent[:, 1]
    points = torch.where(flat[:, None, None], points[..., [1, 0, 2]], points)
    inner = torch.where(flat[:, None], inner.flip(1), inner)
    _, height, width = zbuf.shape
    length, lines = torch.where(flat, height, width), torch.where(flat, width, height)
    step, line_step = torch.where(flat, width, 1), torch.where(flat, 1, width)

    span = points.detach()[..., 1]
    first = (span.amin(1) - 0.5).ceil().clamp(min=0).minimum(lines).long()
    last = ((span.amax(1) - 0.5).ceil() - 1).clamp(min=-1).minimum(lines - 1).long()
    counts = (last - first + 1).clamp(min=0)
    edge = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    line = torch.arange(len(edge), device=counts.device) - (counts.cumsum(0) - counts - first)[edge]
    start, end = points.index_select(0, edge).unbind(1)
    t = (line + 0.5 - start[:, 1]) / (end[:, 1] - start[:, 1])
    position = start[:, 0] + t * (end[:, 0] - start[:, 0])
    with torch.no_grad():
        depth = 1 / ((1 - t) / start[:, 2] + t / end[:, 2])
        low = (position - 0.5).floor().long()
        within = ((low >= 0) & (low < length[edge] - 1)).nonzero().squeeze(1)
        before = _side(start, end, inner.index_select(0, edge))[within] < 0
        low, line, edge = low[within], line[within], edge[within]
        near_index, far_index = torch.where(before, low, low + 1), torch.where(before, low + 1, low)
        base = view[edge] * (height * width) + line * line_step[edge]
        near, far = base + near_index * step[edge], base + far_index * step[edge]
        seen = _visible(zbuf, near, far, depth[within]).nonzero().squeeze(1)
    distance = (position.index_select(0, within[seen]) - 0.5 - near_index[seen]).abs()
    return _outermost(Crossings(near[seen], far[seen], distance))


def _side(start: Float[Tensor, "c 3"], end: Float[Tensor, "c 3"], inner: Float[Tensor, "c 2"]) -> Float[Tensor, " c"]:
    """Negative where the face lies towards lower first coordinates, as seen from its edge."""
    t = (inner[:, 1] - start[:, 1]) / (end[:, 1] - start[:, 1])
    return inner[:, 0] - (start[:, 0] + t * (end[:, 0] - start[:, 0]))


def _visible(
    zbuf: Float[Tensor, "n h w"], near: Int[Tensor, " c"], far: Int[Tensor, " c"], depth: Float[Tensor, " c"]
) -> Bool[Tensor, " c"]:
    """The edge hides what the far pixel sees, and the near pixel sees the edge's own sheet.

    The sheet is told from what lies behind it by being nearer to the edge's depth than to the far
    pixel's: beside a silhouette a smooth surface changes depth too quickly for a fixed tolerance.
    """
    at_near, at_far = (torch.where(d > 0, d, torch.inf) for d in (zbuf.flatten()[near], zbuf.flatten()[far]))
    return at_near.isfinite() & (depth < at_far) & (at_near <= (depth + at_far) / 2)


def _outermost(crossings: Crossings) -> Crossings:
    """One crossing a pair, the farthest out: silhouettes of fine meshes zigzag within a pixel."""
    near, far, distance = crossings
    beside = (far - near).abs() == 1
    pair = (near * 2 + beside) * 2 + (far > near)
    order = distance.detach().argsort(stable=True)
    order = order[pair[order].argsort(stable=True)]
    last = torch.ones_like(order, dtype=torch.bool)
    last[:-1] = pair[order[:-1]] != pair[order[1:]]
    winner = order[last]
    return Crossings(near[winner], far[winner], distance.index_select(0, winner))
