"""Analytic edge antialiasing: the coverage of boundary pixels, and with it the gradient of visibility.

After Laine et al. 2020, "Modular Primitives for High-Performance Differentiable Rendering", section
3.5: two neighbouring pixels that lie on either side of a silhouette are blended by where the
silhouette crosses the segment between their centres. There, pixel pairs look for an edge of the
triangle that they see, and find none where triangles are smaller than pixels. Here silhouette edges
look for the pixel pairs that they cross, which holds at any resolution of the mesh.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from recon.camera import Cameras
from recon.render.intersect import of_views
from recon.render.rasterize import OnScreen
from recon.render.silhouettes import Silhouettes, silhouettes


class Crossings(NamedTuple):
    """Where silhouettes cross between the centres of neighbouring pixels.

    `near` and `far` are flat pixel indices on the surface's side and beyond it; `distance` in [0, 1]
    from the near centre to the crossing carries the gradient to the vertices.
    """

    near: Int[Tensor, " c"]
    far: Int[Tensor, " c"]
    distance: Float[Tensor, " c"]


class OnLines(NamedTuple):
    """Silhouettes along the lines through pixel centres that they meet: columns where `flat`, else rows.

    Position on the line and 1 / depth are affine in the coordinate across the lines. `before`: the face lies
    towards the lower pixels of the line.
    """

    flat: Bool[Tensor, " k"]
    before: Bool[Tensor, " k"]
    across: Float[Tensor, "2 k"]
    start: Float[Tensor, "2 k"]
    slope: Float[Tensor, "2 k"]


class Pairs(NamedTuple):
    """Pixels on either side of a crossing, which edge it is of, on which line, and how far from the near centre."""

    near: Int[Tensor, " c"]
    far: Int[Tensor, " c"]
    edge: Int[Tensor, " c"]
    line: Int[Tensor, " c"]
    distance: Float[Tensor, " c"]


def antialias(image: Float[Tensor, "c n h w"], crossings: Crossings) -> Float[Tensor, "c n h w"]:
    """Blend each pair of pixels so that either holds the box-filtered share of both colours."""
    flat = image.flatten(1)
    near, far, distance = crossings
    # The border between the pair's pixels moves from 1/2 to `distance`: that share changes colour.
    change = (distance - 0.5) * (flat.index_select(1, near) - flat.index_select(1, far))
    changing = torch.where(distance < 0.5, near, far)
    return flat.index_add(1, changing, change).view(image.shape)


def find_crossings(
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    cameras: Cameras,
    screen: OnScreen,
    zbuf: Float[Tensor, "n h w"],
) -> Crossings:
    """All visible crossings of the mesh's silhouettes. `zbuf` is not positive where nothing is seen."""
    with torch.no_grad():
        edges = silhouettes(faces, screen, cameras.height, cameras.width)
        lines = _on_lines(edges)
        pairs = _pairs(edges, lines, zbuf)
        jacobian = _jacobian(edges, lines, pairs, cameras)
        ends = edges.ends.index_select(1, pairs.edge)
    return Crossings(pairs.near, pairs.far, _WithJacobian.apply(vertices, pairs.distance, ends, jacobian))


def _on_lines(edges: Silhouettes) -> OnLines:
    """The flat edges on columns, with pixel pairs one above the other, the steep ones on rows."""
    x, y, depth = edges.points
    flat = (x[1] - x[0]).abs() > (y[1] - y[0]).abs()
    across, along = torch.where(flat, x, y), torch.where(flat, y, x)
    start, end = torch.stack([along, 1 / depth], dim=1)
    slope = (end - start) / (across[1] - across[0])
    inner, inner_across = torch.where(flat, edges.inner.flip(0), edges.inner)
    return OnLines(flat, inner < start[0] + slope[0] * (inner_across - across[0]), across, start, slope)


def _pairs(edges: Silhouettes, lines: OnLines, zbuf: Float[Tensor, "n h w"]) -> Pairs:
    """The pairs of neighbouring pixels that see a crossing between their centres."""
    _, height, width = zbuf.shape
    edge, line = _lines_met(lines, height, width)
    table = torch.cat([lines.across[:1], lines.start, lines.slope]).index_select(1, edge)
    position, inverse_depth = torch.addcmul(table[1:3], table[3:], line + 0.5 - table[0])
    view, flat, before = (values.index_select(0, edge) for values in (edges.view, lines.flat, lines.before))
    low = (position - 0.5).floor().long()
    lower = view * (height * width) + torch.where(flat, low * width + line, line * width + low)
    upper = lower + 1 + flat * (width - 1)
    near, far = torch.where(before, lower, upper), torch.where(before, upper, lower)
    distance = (position - (low + 1.5 - before.long())).abs()
    pairs = torch.stack([near, far, edge, line, (lower * 2 + flat) * 2 + before])

    within = ((low >= 0) & (low < width - 1 + flat * (height - width))).nonzero().squeeze(1)
    visible = _visible(zbuf, pairs[:2].index_select(1, within), 1 / inverse_depth.index_select(0, within))
    seen = within.index_select(0, visible.nonzero().squeeze(1))
    seen = seen.index_select(0, _outermost(pairs[4].index_select(0, seen), distance.index_select(0, seen)))
    near, far, edge, line, _ = pairs.index_select(1, seen)
    return Pairs(near, far, edge, line, distance.index_select(0, seen))


def _lines_met(lines: OnLines, height: int, width: int) -> tuple[Int[Tensor, " c"], Int[Tensor, " c"]]:
    """The edges, each as often as there are lines that it meets, and these lines."""
    low, high = (lines.across - 0.5).ceil_().aminmax(dim=0)
    first = low.clamp_(min=0).long()
    counts = (torch.minimum(high, height + lines.flat * (width - height)).long() - first).clamp_(min=0)
    edge = torch.repeat_interleave(counts)
    skipped = counts.cumsum(0) - counts - first
    return edge, torch.arange(len(edge), device=counts.device) - skipped.index_select(0, edge)


def _visible(zbuf: Float[Tensor, "n h w"], pairs: Int[Tensor, "2 c"], depth: Float[Tensor, " c"]) -> Bool[Tensor, " c"]:
    """The edge hides what the far pixel sees, and the near pixel sees the edge's own sheet.

    The sheet is told from what lies behind it by being nearer to the edge's depth than to the far
    pixel's: beside a silhouette a smooth surface changes depth too quickly for a fixed tolerance.
    """
    seen = zbuf.flatten().index_select(0, pairs.flatten())
    at_near, at_far = torch.where(seen > 0, seen, torch.inf).view(2, -1)
    return at_near.isfinite() & (depth < at_far) & (at_near <= (depth + at_far) / 2)


def _outermost(pair: Int[Tensor, " c"], distance: Float[Tensor, " c"]) -> Int[Tensor, " p"]:
    """One crossing a pair, the farthest out: silhouettes of fine meshes zigzag within a pixel."""
    # Bits of positive floats sort as the floats do.
    order = (pair << 32 | distance.float().view(torch.int32)).argsort(stable=True)
    pair = pair.index_select(0, order)
    last = torch.ones_like(pair, dtype=torch.bool)
    last[:-1] = pair[:-1] != pair[1:]
    return order[last]


def _jacobian(edges: Silhouettes, lines: OnLines, pairs: Pairs, cameras: Cameras) -> Float[Tensor, "3 2 c"]:
    """How distances change as the ends of the edges move in the world: along the normal of the plane through
    the camera and the edge, each end as much as the crossing is near it on the screen.
    """
    flat, before, view = (values.index_select(0, pairs.edge) for values in (lines.flat, lines.before, edges.view))
    table = torch.cat([lines.across, edges.points[2], lines.start[:1], lines.slope[:1]]).index_select(1, pairs.edge)
    across, depth, (along, slope) = table[:2], table[2:4], table[4:]
    share = (pairs.line + 0.5 - across[0]) / (across[1] - across[0])
    weights = torch.stack([1 - share, share]) * (2.0 * before - 1) / depth
    # The edge's line on the screen: along - slope * across is the same everywhere on it.
    by_x, by_y = torch.where(flat, -slope, 1), torch.where(flat, 1, -slope)
    on_screen = torch.stack([by_x, by_y, slope * across[0] - along])
    to_image = of_views(cameras.world_to_image.flatten(1), view).view(3, 3, -1)
    return weights * (on_screen[:, None] * to_image).sum(0)[:, None]


class _WithJacobian(torch.autograd.Function):
    """Numbers that were computed without gradient, given their derivatives with respect to some points each."""

    @staticmethod
    def forward(
        ctx: Any,
        points: Float[Tensor, "v 3"],
        values: Float[Tensor, " c"],
        index: Int[Tensor, "m c"],
        jacobian: Float[Tensor, "3 m c"],
    ) -> Float[Tensor, " c"]:
        ctx.save_for_backward(index, jacobian)
        ctx.points = len(points)
        return values.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Float[Tensor, " c"]) -> tuple[Float[Tensor, "v 3"], None, None, None]:
        index, jacobian = ctx.saved_tensors
        moved = jacobian.new_zeros(3, ctx.points)
        return moved.index_add_(1, index.flatten(), (gradient * jacobian).flatten(1)).T, None, None, None
