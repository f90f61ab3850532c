"""Analytic edge antialiasing: `recon.render.antialias` as kernels.

    find     every silhouette edge looks for the pairs of samples between whose centres it crosses; of each pair the
             outermost visible crossing stays, by an atomic maximum of (bits of the distance, edge)
    blend    every sample looks at the four pairs that it is in, and takes what they change of it
    back     of the image: the same, the other way round; of the vertices: every edge looks for its pairs again, and
             adds up what they give to its two ends

A pair is known by its lower sample and its direction: entry [0] of a sample is the pair with the next of its row, entry
[1] that with the next of its column.
"""

from typing import Any, NamedTuple, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from recon.camera import Cameras
from recon.render.kernels.sums import sums_at
from recon.render.kernels.topology import Topology
from recon.render.rasterize import NEAR

EDGES = 64
"""Edges of a program: few of them are silhouettes."""

BLOCK = 256

_NEAR = tl.constexpr(NEAR)


class Silhouettes(NamedTuple):
    """Edges on the screens of `n` cameras, of h x w pixels.

    points: the vertices as `Cameras.project` has them. area: twice the faces' signed areas there.
    depth: of what the samples see, 0 where they see nothing. to_image: `Cameras.world_to_image`.
    """

    points: Float[Tensor, "3 n v"]
    area: Float[Tensor, "n f"]
    depth: Float[Tensor, "n h w"]
    to_image: Float[Tensor, "n 3 3"]


def blended(
    image: Float[Tensor, "c n h w"],
    vertices: Float[Tensor, "v 3"],
    mesh: Topology,
    cameras: Cameras,
    points: Float[Tensor, "3 n v"],
    area: Float[Tensor, "n f"],
    depth: Float[Tensor, "n h w"],
) -> Float[Tensor, "c n h w"]:
    """`image` with its silhouettes blended, with gradient to the image and to the vertices.

    Args:
        image: what samples see, 0 where they see nothing.
        vertices, mesh: seen in it.
        cameras: of the pictures; they get no gradient.
        points: the vertices on the screen, from `Cameras.project`, coordinates first.
        area: from `nearest_faces`.
        depth: of what is seen, 0 where nothing is.
    """
    edges = Silhouettes(points.contiguous(), area, depth.contiguous(), cameras.world_to_image.contiguous())
    return _Blend.apply(image, vertices, mesh, edges)


@torch.no_grad()
def find_pairs(mesh: Topology, edges: Silhouettes) -> Int[Tensor, "2 n h w"]:
    """Of each pair of neighbouring samples the outermost visible crossing, as (bits of its distance from the near
    centre, edge, whether the near sample is the lower one): in 32, 31 and 1 bits, or -1 where there is none."""
    pairs = torch.full((2, *edges.depth.shape), -1, dtype=torch.int64, device=edges.depth.device)
    _find[_grid(mesh, edges)](*_arguments(mesh, edges), pairs, EDGES=EDGES, enable_fp_fusion=False)
    return pairs


def _grid(mesh: Topology, edges: Silhouettes) -> tuple[int, int]:
    return triton.cdiv(mesh.ends.shape[1], EDGES), len(edges.depth)


def _arguments(mesh: Topology, edges: Silhouettes) -> tuple[Tensor | int, ...]:
    _, height, width = edges.depth.shape
    sizes = edges.points.shape[2], edges.area.shape[1], mesh.ends.shape[1], height, width
    return edges.points, mesh.ends, mesh.beside, mesh.opposite, edges.area, edges.depth, *sizes


class _Blend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        image: Float[Tensor, "c n h w"],
        vertices: Float[Tensor, "v 3"],
        mesh: Topology,
        edges: Silhouettes,
    ) -> Float[Tensor, "c n h w"]:
        image = image.contiguous()
        pairs = find_pairs(mesh, edges)
        out = torch.empty_like(image)
        _run(_blend, image, pairs, out)
        ctx.save_for_backward(image, pairs, *edges)
        ctx.mesh = mesh
        return out

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gradient: Float[Tensor, "c n h w"]
    ) -> tuple[Float[Tensor, "c n h w"], Float[Tensor, "v 3"], None, None]:
        image, pairs, *rest = ctx.saved_tensors
        mesh, edges, gradient = ctx.mesh, Silhouettes(*rest), gradient.contiguous()
        of_image = torch.empty_like(image)
        _run(_blend_backward, gradient, pairs, of_image)
        at_ends = image.new_empty(len(edges.depth), 3, 2 * mesh.ends.shape[1])
        _ends_backward[_grid(mesh, edges)](
            *_arguments(mesh, edges),
            edges.to_image,
            pairs,
            image,
            gradient,
            at_ends,
            CHANNELS=len(image),
            EDGES=EDGES,
            enable_fp_fusion=False,
        )
        return of_image, sums_at(at_ends, mesh.at_ends).T, None, None


def _run(kernel: Any, image: Float[Tensor, "c n h w"], pairs: Int[Tensor, "2 n h w"], out: Tensor) -> None:
    """One of the two kernels over samples."""
    samples = image[0].numel()
    grid = (triton.cdiv(samples, BLOCK),)
    kernel[grid](image, pairs, out, samples, image.shape[3], CHANNELS=len(image), BLOCK=BLOCK, enable_fp_fusion=False)


@triton.jit
@no_type_check
def _load_end(points, view, views, vertices, vertex, there):
    at = points + view * vertices + vertex
    step = views * vertices
    x = tl.load(at, mask=there, other=0.0)
    y = tl.load(at + step, mask=there, other=0.0)
    depth = tl.load(at + 2 * step, mask=there, other=1.0)
    return x, y, depth


@triton.jit
@no_type_check
def _on_lines(points, ends, beside, opposite, area, vertices, faces, edges, height, width, EDGES: tl.constexpr):
    """The silhouettes of a program's edges as functions across the lines that they meet.

    See `recon.render.silhouettes` and `recon.render.antialias.OnLines`. `count` is 0 for what is no silhouette.
    """
    view, views = tl.program_id(1), tl.num_programs(1)
    edge = tl.program_id(0) * EDGES + tl.arange(0, EDGES)
    there = edge < edges
    face = tl.load(beside + edge, mask=there, other=-1)
    other = tl.load(beside + edges + edge, mask=there, other=-1)
    outer = tl.load(area + view * faces + face, mask=there & (face >= 0), other=0.0) < 0
    outer_other = tl.load(area + view * faces + other, mask=there & (other >= 0), other=0.0) < 0
    turning = there & (outer != outer_other)
    start = tl.load(ends + edge, mask=turning, other=0)
    stop = tl.load(ends + edges + edge, mask=turning, other=0)
    third = tl.load(opposite + tl.where(outer, edge, edges + edge), mask=turning, other=0)
    x0, y0, z0 = _load_end(points, view, views, vertices, start, turning)
    x1, y1, z1 = _load_end(points, view, views, vertices, stop, turning)
    x2, y2, _ = _load_end(points, view, views, vertices, third, turning)
    within = (tl.maximum(x0, x1) >= 0) & (tl.minimum(x0, x1) <= width)
    within = within & (tl.maximum(y0, y1) >= 0) & (tl.minimum(y0, y1) <= height)
    turning = turning & within & (z0 > _NEAR) & (z1 > _NEAR)
    flat = tl.abs(x1 - x0) > tl.abs(y1 - y0)
    across0, across1 = tl.where(flat, x0, y0), tl.where(flat, x1, y1)
    along0, along1 = tl.where(flat, y0, x0), tl.where(flat, y1, x1)
    low = tl.ceil(tl.minimum(across0, across1) - 0.5)
    high = tl.ceil(tl.maximum(across0, across1) - 0.5)
    first = tl.maximum(tl.where(turning, low, 0.0), 0.0).to(tl.int32)
    size = tl.where(flat, width, height)
    last = tl.minimum(tl.where(turning, high, 0.0), size.to(tl.float32)).to(tl.int32)
    count = tl.where(turning, last - first, 0)
    # An edge without extent meets no line, and its slope is not asked for.
    extent = tl.where(count > 0, across1 - across0, 1.0)
    slope = tl.div_rn(along1 - along0, extent)
    near, far = tl.div_rn(1.0, tl.where(turning, z0, 1.0)), tl.div_rn(1.0, tl.where(turning, z1, 1.0))
    steep = tl.div_rn(far - near, extent)
    inner, inner_across = tl.where(flat, y2, x2), tl.where(flat, x2, y2)
    before = inner < along0 + slope * (inner_across - across0)
    return edge, there, first, count, flat, before, across0, extent, along0, slope, near, steep, z0, z1


@triton.jit
@no_type_check
def _crossing(first, i, flat, before, across0, along0, slope, height, width):
    """The crossing with an edge's i-th line: where across and along, the lower sample in its picture and the step to
    the upper one, whether both are in the picture, and the distance from the near centre."""
    line = first + i
    across = line.to(tl.float32) + 0.5 - across0
    position = along0 + slope * across
    low = tl.floor(position - 0.5)
    size = tl.where(flat, height, width)
    within = (low >= 0) & (low < (size - 1).to(tl.float32))
    low = tl.where(within, low, 0.0)
    distance = tl.abs(position - (low + tl.where(before, 0.5, 1.5)))
    low = low.to(tl.int32)
    lower = tl.where(flat, low * width + line, line * width + low)
    step = tl.where(flat, width, 1)
    return across, lower, step, within, distance


@triton.jit
@no_type_check
def _find(
    points, ends, beside, opposite, area, depths, vertices, faces, edges, height, width, pairs, EDGES: tl.constexpr
):
    edge, there, first, count, flat, before, across0, extent, along0, slope, near, steep, z0, z1 = _on_lines(
        points, ends, beside, opposite, area, vertices, faces, edges, height, width, EDGES
    )
    view, views = tl.program_id(1), tl.num_programs(1)
    samples = views.to(tl.int64) * height * width
    picture = view.to(tl.int64) * height * width
    most = tl.max(count, axis=0)
    i = 0
    while i < most:
        across, lower, step, within, distance = _crossing(first, i, flat, before, across0, along0, slope, height, width)
        within = within & (i < count)
        inverse = near + steep * across
        depth = tl.div_rn(1.0, tl.where(within, inverse, 1.0))
        at_lower = tl.load(depths + picture + lower, mask=within, other=0.0)
        at_upper = tl.load(depths + picture + lower + step, mask=within, other=0.0)
        at_near = tl.where(before, at_lower, at_upper)
        at_far = tl.where(before, at_upper, at_lower)
        at_far = tl.where(at_far > 0, at_far, float("inf"))
        visible = within & (at_near > 0) & (depth < at_far) & (at_near <= (depth + at_far) * 0.5)
        bits = distance.to(tl.int32, bitcast=True).to(tl.int64) << 32
        value = bits | (edge.to(tl.int64) * 2 + before.to(tl.int64))
        place = picture + lower + tl.where(flat, samples, samples * 0)
        tl.atomic_max(pairs + place, value, mask=visible, sem="relaxed")
        i += 1


@triton.jit
@no_type_check
def _read(pairs, place, there):
    """Whether there is a crossing in a pair, whether its near sample is the lower one, its distance, and whether the
    lower sample is the one that changes."""
    value = tl.load(pairs + place, mask=there, other=-1)
    some = value >= 0
    before = (value & 1) == 1
    distance = (value >> 32).to(tl.int32).to(tl.float32, bitcast=True)
    return some, before, distance, before == (distance < 0.5)


@triton.jit
@no_type_check
def _blend(image, pairs, out, samples, width, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    sample = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = sample < samples
    total = samples.to(tl.int64)
    for channel in tl.static_range(CHANNELS):
        value = tl.load(image + channel * total + sample, mask=there, other=0.0)
        change = value * 0
        for side in tl.static_range(4):
            # Right, left, below, above: as the lower sample of a pair, or as its upper one.
            step = 1 if side < 2 else width
            lower = sample if side % 2 == 0 else sample - step
            beyond = sample + step if side % 2 == 0 else sample - step
            place = lower if side < 2 else total + lower
            some, before, distance, lower_changes = _read(pairs, place, there & (lower >= 0))
            changes = some & (lower_changes if side % 2 == 0 else ~lower_changes)
            other = tl.load(image + channel * total + beyond, mask=changes, other=0.0)
            near = before if side % 2 == 0 else ~before
            step_up = (distance - 0.5) * tl.where(near, value - other, other - value)
            change += tl.where(changes, step_up, 0.0)
        tl.store(out + channel * total + sample, value + change, mask=there)


@triton.jit
@no_type_check
def _blend_backward(gradient, pairs, out, samples, width, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    sample = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = sample < samples
    total = samples.to(tl.int64)
    for channel in tl.static_range(CHANNELS):
        value = tl.load(gradient + channel * total + sample, mask=there, other=0.0)
        change = value * 0
        for side in tl.static_range(4):
            step = 1 if side < 2 else width
            lower = sample if side % 2 == 0 else sample - step
            beyond = sample + step if side % 2 == 0 else sample - step
            place = lower if side < 2 else total + lower
            some, before, distance, lower_changes = _read(pairs, place, there & (lower >= 0))
            own = lower_changes if side % 2 == 0 else ~lower_changes
            other = tl.load(gradient + channel * total + beyond, mask=some & ~own, other=0.0)
            near = before if side % 2 == 0 else ~before
            share = (distance - 0.5) * tl.where(own, value, other)
            change += tl.where(some, tl.where(near, share, -share), 0.0)
        tl.store(out + channel * total + sample, value + change, mask=there)


@triton.jit
@no_type_check
def _ends_backward(
    points, ends, beside, opposite, area, depths, vertices, faces, edges, height, width, to_image, pairs, image,
    gradient, at_ends, CHANNELS: tl.constexpr, EDGES: tl.constexpr,
):  # fmt: skip
    edge, there, first, count, flat, before, across0, extent, along0, slope, near, steep, z0, z1 = _on_lines(
        points, ends, beside, opposite, area, vertices, faces, edges, height, width, EDGES
    )
    view, views = tl.program_id(1), tl.num_programs(1)
    samples = views.to(tl.int64) * height * width
    picture = view.to(tl.int64) * height * width
    at_start = tl.zeros((EDGES,), tl.float32)
    at_stop = at_start
    most = tl.max(count, axis=0)
    i = 0
    while i < most:
        across, lower, step, within, distance = _crossing(first, i, flat, before, across0, along0, slope, height, width)
        lower = picture + lower
        place = lower + tl.where(flat, samples, samples * 0)
        value = tl.load(pairs + place, mask=within & (i < count), other=-1)
        own = (value >= 0) & (((value & 0xFFFFFFFF) >> 1) == edge)
        closer = distance < 0.5
        changing = tl.where(before == closer, lower, lower + step)
        by_distance = tl.zeros((EDGES,), tl.float32)
        for channel in tl.static_range(CHANNELS):
            plane = channel * samples
            given = tl.load(gradient + plane + changing, mask=own, other=0.0)
            at_lower = tl.load(image + plane + lower, mask=own, other=0.0)
            at_upper = tl.load(image + plane + lower + step, mask=own, other=0.0)
            by_distance += given * (at_lower - at_upper)
        # The difference of near and far, and the distance as it grows with the position: both have this sign.
        share = tl.div_rn(across, extent)
        at_start += tl.where(own, by_distance * (1 - share), 0.0)
        at_stop += tl.where(own, by_distance * share, 0.0)
        i += 1

    turning = count > 0
    at_start = tl.div_rn(at_start, tl.where(turning, z0, 1.0))
    at_stop = tl.div_rn(at_stop, tl.where(turning, z1, 1.0))
    # The edge's line on the screen: see `recon.render.antialias._jacobian`.
    by_x, by_y = tl.where(flat, -slope, 1.0), tl.where(flat, 1.0, -slope)
    constant = slope * across0 - along0
    matrix = to_image + 9 * view
    out = at_ends + view.to(tl.int64) * 6 * edges + edge
    for axis in tl.static_range(3):
        towards = by_x * tl.load(matrix + axis) + by_y * tl.load(matrix + 3 + axis)
        towards += constant * tl.load(matrix + 6 + axis)
        tl.store(out + axis * 2 * edges, tl.where(turning, at_start * towards, 0.0), mask=there)
        tl.store(out + axis * 2 * edges + edges, tl.where(turning, at_stop * towards, 0.0), mask=there)
