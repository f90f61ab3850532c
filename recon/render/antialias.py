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
from recon.render.rasterize import NEAR, front_facing


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
    screen: Float[Tensor, "n v 3"],
    zbuf: Float[Tensor, "n h w"],
) -> Crossings:
    """All visible crossings of the mesh's silhouettes. `zbuf` is not positive where nothing is seen."""
    view, ends, opposite = _silhouettes(faces, screen, cameras.height, cameras.width)
    points = _project_pairs(vertices, cameras, view, ends)
    inner = screen[view, opposite, :2]
    parts = [_cross_axis(points, inner, view, zbuf, axis) for axis in (0, 1)]
    near, far, distance = (torch.cat(values) for values in zip(*parts, strict=True))
    return Crossings(near, far, distance)


@torch.no_grad()
def _silhouettes(
    faces: Int[Tensor, "f 3"], screen: Float[Tensor, "n v 3"], height: int, width: int
) -> tuple[Int[Tensor, " k"], Int[Tensor, "k 2"], Int[Tensor, " k"]]:
    """View, ends, and the visible face's third corner, of each edge in a picture where the surface turns away."""
    edges = mesh_edges(faces)
    front = front_facing(screen, faces)
    first = front[:, edges.faces[:, 0]]
    second = front[:, edges.faces[:, 1].clamp(min=0)] & (edges.faces[:, 1] >= 0)
    view, edge = (first != second).nonzero(as_tuple=True)
    ends = edges.vertices[edge]
    x, y, depth = screen[view[:, None], ends].unbind(2)
    beside = (x < 0).all(1) | (x > width).all(1) | (y < 0).all(1) | (y > height).all(1)
    kept = (depth > NEAR).all(1) & ~beside
    view, edge, ends = view[kept], edge[kept], ends[kept]
    side = torch.where(first[view, edge], 0, 1)
    return view, ends, edges.opposite[edge, side]


def _project_pairs(
    vertices: Float[Tensor, "v 3"], cameras: Cameras, view: Int[Tensor, " k"], ends: Int[Tensor, "k 2"]
) -> Float[Tensor, "k 2 3"]:
    """Pixel coordinates and depth of both ends of each edge, with gradient."""
    points = vertices.index_select(0, ends.flatten()).view(-1, 2, 3)
    rotation = cameras.camera_to_world[:, :3, :3].index_select(0, view)
    local = (points - cameras.centers.index_select(0, view)[:, None]) @ rotation
    homogeneous = local @ cameras.intrinsics.index_select(0, view).transpose(1, 2)
    return torch.cat([homogeneous[..., :2] / local[..., 2:], local[..., 2:]], dim=-1)


def _cross_axis(
    points: Float[Tensor, "k 2 3"],
    inner: Float[Tensor, "k 2"],
    view: Int[Tensor, " k"],
    zbuf: Float[Tensor, "n h w"],
    axis: int,
) -> Crossings:
    """Crossings with pairs along `axis` (0: left-right, 1: up-down), by edges that run across it.

    Each edge meets the lines through pixel centres that it spans; the crossing lies between two
    centres of that line.
    """
    across = 1 - axis
    length, lines = zbuf.shape[2 - axis], zbuf.shape[1 + axis]
    extent = (points[:, 1] - points[:, 0]).detach().abs()
    steep = extent[:, across] > extent[:, axis]
    points, inner, view = points[steep], inner[steep], view[steep]
    span = points.detach()[..., across]
    first = (span.amin(1) - 0.5).ceil().clamp(0, lines).long()
    last = ((span.amax(1) - 0.5).ceil() - 1).clamp(-1, lines - 1).long()
    counts = (last - first + 1).clamp(min=0)
    edge = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    line = torch.arange(len(edge), device=counts.device) - (counts.cumsum(0) - counts - first)[edge]
    start, end = points.index_select(0, edge).unbind(1)
    t = (line + 0.5 - start[:, across]) / (end[:, across] - start[:, across])
    position = start[:, axis] + t * (end[:, axis] - start[:, axis])
    with torch.no_grad():
        depth = 1 / ((1 - t) / start[:, 2] + t / end[:, 2])
        low = (position - 0.5).floor().long()
        within = (low >= 0) & (low < length - 1)
        inner_at = _side(start, end, inner.index_select(0, edge), axis)
        near_index = torch.where(inner_at < 0, low, low + 1)
        far_index = torch.where(inner_at < 0, low + 1, low)
    within = within.nonzero().squeeze(1)
    near_index, far_index, line = near_index[within], far_index[within], line[within]
    first_pixel = view[edge[within]] * zbuf[0].numel()
    stride, line_stride = (1, zbuf.shape[2]) if axis == 0 else (zbuf.shape[2], 1)
    base = first_pixel + line * line_stride
    near, far = base + near_index * stride, base + far_index * stride
    seen = _visible(zbuf, near, far, depth[within])
    distance = (position.index_select(0, within) - 0.5 - near_index).abs()
    return _outermost(Crossings(near[seen], far[seen], distance[seen]))


def _side(
    start: Float[Tensor, "c 3"], end: Float[Tensor, "c 3"], inner: Float[Tensor, "c 2"], axis: int
) -> Float[Tensor, " c"]:
    """Negative where the face lies towards lower coordinates of `axis`, as seen from its edge."""
    across = 1 - axis
    t = (inner[:, across] - start[:, across]) / (end[:, across] - start[:, across])
    return inner[:, axis] - (start[:, axis] + t * (end[:, axis] - start[:, axis]))


def _visible(
    zbuf: Float[Tensor, "n h w"], near: Int[Tensor, " c"], far: Int[Tensor, " c"], depth: Float[Tensor, " c"]
) -> Bool[Tensor, " c"]:
    """The edge hides what the far pixel sees, and the near pixel sees the edge's own sheet.

    The sheet is told from what lies behind it by being nearer to the edge's depth than to the far
    pixel's: beside a silhouette a smooth surface changes depth too quickly for a fixed tolerance.
    """
    flat = zbuf.flatten()
    infinite = torch.full_like(flat, torch.inf)
    flat = torch.where(flat > 0, flat, infinite)
    at_near, at_far = flat[near], flat[far]
    return at_near.isfinite() & (depth < at_far) & (at_near <= (depth + at_far) / 2)


def _outermost(crossings: Crossings) -> Crossings:
    """One crossing a pair, the farthest out: silhouettes of fine meshes zigzag within a pixel."""
    near, far, distance = crossings
    pair = near * 2 + (far > near)
    order = distance.detach().argsort(stable=True)
    order = order[pair[order].argsort(stable=True)]
    last = torch.ones_like(order, dtype=torch.bool)
    last[:-1] = pair[order[:-1]] != pair[order[1:]]
    winner = order[last]
    return Crossings(near[winner], far[winner], distance.index_select(0, winner))
