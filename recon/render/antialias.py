"""Analytic edge antialiasing: the alpha of boundary pixels, and with it the gradient of visibility.

A rasteriser gives every pixel one face or none. Moving a vertex a little changes no pixel, until one of them jumps: the
picture has no derivative by where outlines are. Laine et al. 2020, "Modular Primitives for High-Performance
Differentiable Rendering", section 3.5, put it back: where a silhouette crosses the segment between the centres of two
neighbouring pixels, the pixels are blended by the place of the crossing, and that place moves with the vertices.

    near centre            border           far centre
        o---------------------|-----------------o
                  ^ crossing, at `distance` from the near centre

The silhouette is taken to be perpendicular to the segment, over the height of the pixels. With a crossing before the
border (distance < 1/2), the far colour fills 1/2 - distance of the near pixel; else the near colour fills
distance - 1/2 of the far pixel. At the border both are as they were, so that the picture is continuous.

In the paper, pixel pairs look for an edge of the triangle that they see, and find none where triangles are smaller than
pixels. Here silhouette edges look for the pixel pairs that they cross, which holds at any resolution of the mesh:

    1. `silhouettes` finds the edges where the surface turns away.
    2. Each edge meets lines through pixel centres: columns if it is flat, rows if it is steep (`_lines_met`).
    3. On each line it lies between two pixel centres: a pair, and a distance (`_pairs`).
    4. A pair counts if it sees that edge, rather than something before it (`_visible`), and once (`_outermost`).
    5. The derivative of the distance by the edge's two ends is known in closed form (`_jacobian`).
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

    `near` and `far` are flat indices into (n, h, w) of the pixels on the surface's side and beyond it. `distance` is
    that from the near centre to the crossing, in pixels, in [0, 1]; it carries the gradient to the vertices.
    """

    near: Int[Tensor, " c"]
    far: Int[Tensor, " c"]
    distance: Float[Tensor, " c"]


class OnLines(NamedTuple):
    """Silhouettes as functions of the coordinate across the lines through pixel centres that they meet.

    The lines are columns where `flat`, which are told apart by x, else rows, told apart by y. Where on a line the edge
    crosses it (in pixels) and 1 / depth there are affine in that coordinate.

    `before`: the face lies towards the lower pixels of the line, so that the near pixel is the lower one.
    `across`: the coordinate of both ends across the lines, in pixels.
    `start`, `slope`: position along the line and 1 / depth (the two rows) at the first end, and their derivatives.
    """

    flat: Bool[Tensor, " k"]
    before: Bool[Tensor, " k"]
    across: Float[Tensor, "2 k"]
    start: Float[Tensor, "2 k"]
    slope: Float[Tensor, "2 k"]


class Pairs(NamedTuple):
    """As `Crossings`, without gradient, and the silhouette (index into `Silhouettes`) and the column or row, in pixels,
    of each crossing."""

    near: Int[Tensor, " c"]
    far: Int[Tensor, " c"]
    edge: Int[Tensor, " c"]
    line: Int[Tensor, " c"]
    distance: Float[Tensor, " c"]


def antialias(image: Float[Tensor, "c n h w"], crossings: Crossings) -> Float[Tensor, "c n h w"]:
    """Blend each pair of pixels so that either holds the box-filtered share of both colours.

    Args:
        image: what is to be blended, channels first, with a value where nothing is seen too; carries gradient.
        crossings: of the same pictures, from `find_crossings`.

    Returns:
        The blended image, with gradient to `image` and, through the distances, to the vertices. A pixel that has
        crossings on several sides gets the sum of their changes.
    """
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
    """All visible crossings of a mesh's silhouettes, at most one for each pair of neighbouring pixels.

    Args:
        vertices: in the world; the crossings' distances carry gradient to them.
        faces: corners, outward counter-clockwise.
        cameras: of the pictures; they get no gradient.
        screen: the mesh in these cameras, from `rasterize.on_screen`.
        zbuf: depth along the optical axis of what each pixel sees, not positive where it sees nothing.
    """
    with torch.no_grad():
        edges = silhouettes(faces, screen, cameras.height, cameras.width)
        lines = _on_lines(edges)
        pairs = _pairs(edges, lines, zbuf)
        jacobian = _jacobian(edges, lines, pairs, cameras)
        ends = edges.ends.index_select(1, pairs.edge)
    return Crossings(pairs.near, pairs.far, _WithJacobian.apply(vertices, pairs.distance, ends, jacobian))


def _on_lines(edges: Silhouettes) -> OnLines:
    """The flat edges on columns, with pixel pairs one above the other, the steep ones on rows.

    So the edge makes at least 45 degrees with the segment between the centres, as the blending assumes that it is
    perpendicular to it, and no slope exceeds 1. Of an edge that has no extent at all the slope is not a number; it
    meets no line.
    """
    x, y, depth = edges.points
    flat = (x[1] - x[0]).abs() > (y[1] - y[0]).abs()
    across, along = torch.where(flat, x, y), torch.where(flat, y, x)
    # Under perspective 1 / depth, and not the depth, is affine on the screen.
    start, end = torch.stack([along, 1 / depth], dim=1)
    slope = (end - start) / (across[1] - across[0])
    # On which side the surface is, the face's third corner tells: below or above the edge's line, at its own place
    # across the lines.
    inner, inner_across = torch.where(flat, edges.inner.flip(0), edges.inner)
    return OnLines(flat, inner < start[0] + slope[0] * (inner_across - across[0]), across, start, slope)


def _pairs(edges: Silhouettes, lines: OnLines, zbuf: Float[Tensor, "n h w"]) -> Pairs:
    """The pairs of neighbouring pixels that see a crossing between their centres.

    Columns and rows go through together, told apart by arithmetic on `flat` rather than by two passes: a training has
    thousands of silhouettes, not millions, and a call of torch costs more than its work.
    """
    _, height, width = zbuf.shape
    edge, line = _lines_met(lines, height, width)
    # One gathering of a table costs less than one of each of its rows.
    table = torch.cat([lines.across[:1], lines.start, lines.slope]).index_select(1, edge)
    # The line number `line` runs through pixel centres, at `line` + 1/2.
    position, inverse_depth = torch.addcmul(table[1:3], table[3:], line + 0.5 - table[0])
    view, flat, before = (values.index_select(0, edge) for values in (edges.view, lines.flat, lines.before))
    # The crossing lies between the centres at low + 1/2 and low + 3/2.
    low = (position - 0.5).floor().long()
    lower = view * (height * width) + torch.where(flat, low * width + line, line * width + low)
    # The next pixel of a row is one further, that of a column `width` further.
    upper = lower + 1 + flat * (width - 1)
    near, far = torch.where(before, lower, upper), torch.where(before, upper, lower)
    distance = (position - (low + 1.5 - before.long())).abs()
    # The last row numbers the pair: its lower pixel, and along which axis.
    pairs = torch.stack([near, far, edge, line, lower * 2 + flat])

    # Both pixels are in the picture: `low` runs to width - 2 on rows and to height - 2 on columns.
    within = ((low >= 0) & (low < width - 1 + flat * (height - width))).nonzero().squeeze(1)
    visible = _visible(zbuf, pairs[:2].index_select(1, within), 1 / inverse_depth.index_select(0, within))
    seen = within.index_select(0, visible.nonzero().squeeze(1))
    seen = seen.index_select(0, _outermost(pairs[4].index_select(0, seen), distance.index_select(0, seen)))
    near, far, edge, line, _ = pairs.index_select(1, seen)
    return Pairs(near, far, edge, line, distance.index_select(0, seen))


def _lines_met(lines: OnLines, height: int, width: int) -> tuple[Int[Tensor, " c"], Int[Tensor, " c"]]:
    """The edges, each as often as there are lines that it meets, and these lines.

    An edge that spans [a, b) across the lines meets those with a <= line + 1/2 < b. With the upper end left out, two
    edges that share a vertex on a line do not both meet it.
    """
    low, high = (lines.across - 0.5).ceil_().aminmax(dim=0)
    first = low.clamp_(min=0).long()
    # Not negative, as `silhouettes` leaves out what is beside the picture.
    counts = torch.minimum(high, height + lines.flat * (width - height)).long() - first
    edge = torch.repeat_interleave(counts)
    # A flat range over all results, less how many came before its edge's first, counts from each edge's first line.
    skipped = counts.cumsum(0) - counts - first
    return edge, torch.arange(len(edge), device=counts.device) - skipped.index_select(0, edge)


def _visible(zbuf: Float[Tensor, "n h w"], pairs: Int[Tensor, "2 c"], depth: Float[Tensor, " c"]) -> Bool[Tensor, " c"]:
    """The edge hides what the far pixel sees, and the near pixel sees the edge's own sheet.

    The sheet is told from what lies behind it by being nearer to the edge's depth than to the far
    pixel's: beside a silhouette a smooth surface changes depth too quickly for a fixed tolerance. Without this rule a
    needle that lies between two pixel centres would blend them, though neither shows it.

    Both rules together leave a pair only crossings with the same near pixel. For if edges of depths d and e had the
    pixels' depths (y, z) and (z, y) as those of (near, far), then d < z, e < y, 2 y <= d + z and 2 z <= e + y, and the
    sum of the latter two, y + z <= d + e, contradicts that of the former.
    """
    seen = zbuf.flatten().index_select(0, pairs.flatten())
    at_near, at_far = torch.where(seen > 0, seen, torch.inf).view(2, -1)
    return at_near.isfinite() & (depth < at_far) & (at_near <= (depth + at_far) / 2)


def _outermost(pair: Int[Tensor, " c"], distance: Float[Tensor, " c"]) -> Int[Tensor, " p"]:
    """The index of one crossing for each pair, that farthest from the near centre, which is the same for all of them.

    Silhouettes of fine meshes zigzag within a pixel and cross a segment several times. Blending every crossing would
    count the border as often; the farthest one is where the surface ends.
    """
    # One sort by pair, and by distance within it: the bits of positive floats, read as integers, sort as the floats
    # do. In the lower half of an integer of 64 bits they decide only between equal upper halves. Stable, so that equal
    # distances go to the same edge in every run.
    order = (pair << 32 | distance.float().view(torch.int32)).argsort(stable=True)
    pair = pair.index_select(0, order)
    # The last of each run of one pair.
    last = torch.ones_like(pair, dtype=torch.bool)
    last[:-1] = pair[:-1] != pair[1:]
    return order[last]


def _jacobian(edges: Silhouettes, lines: OnLines, pairs: Pairs, cameras: Cameras) -> Float[Tensor, "3 2 c"]:
    """The derivative of the distances by the edges' two ends, in the world: (coordinate, end, crossing).

    The edge's line on the screen is {(x, y): by_x x + by_y y = constant}, scaled so that the left side changes as the
    position of the crossing does. When an end moves off this line, the crossing follows it by the share that its place
    along the edge gives it: `1 - share` of the first end's move and `share` of the second's.

    A point p of the world has the homogeneous pixel coordinates q = K R^T (p - centre). With the row vector
    l = (by_x, by_y, -constant), l q / depth says how far p is off the line on the screen. It is 0 at both ends, so the
    derivative of 1 / depth drops out, and l K R^T / depth remains: along the normal of the plane through the camera's
    centre and the edge.
    """
    flat, before, view = (values.index_select(0, pairs.edge) for values in (lines.flat, lines.before, edges.view))
    table = torch.cat([lines.across, edges.points[2], lines.start[:1], lines.slope[:1]]).index_select(1, pairs.edge)
    across, depth, (along, slope) = table[:2], table[2:4], table[4:]
    share = (pairs.line + 0.5 - across[0]) / (across[1] - across[0])
    # The distance grows with the position where the near pixel is the lower one, else it falls.
    weights = torch.stack([1 - share, share]) * (2.0 * before - 1) / depth
    # along - slope * across is the same everywhere on the edge's line.
    by_x, by_y = torch.where(flat, -slope, 1), torch.where(flat, 1, -slope)
    on_screen = torch.stack([by_x, by_y, slope * across[0] - along])
    to_image = of_views(cameras.world_to_image.flatten(1), view).view(3, 3, -1)
    return weights * (on_screen[:, None] * to_image).sum(0)[:, None]


class _WithJacobian(torch.autograd.Function):
    """Numbers that were computed without gradient, given their derivatives with respect to some points each.

    values: the numbers. index: the `m` points that each depends on. jacobian: its derivative by each of these.
    The chain of steps that leads to the numbers needs no graph then.
    """

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
