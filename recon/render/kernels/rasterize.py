"""Which face every sample sees: `recon.render.rasterize.visible_faces` as one kernel.

A program takes a few faces of one view, and in a loop some samples of each one's box at a time. The nearest face of a
sample is kept by an atomic minimum of (bits of the depth, face), as in torch.
"""

from typing import NamedTuple, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from recon.render.kernels.topology import Topology
from recon.render.rasterize import INSIDE_TOLERANCE, NEAR

EMPTY = torch.iinfo(torch.int64).max
"""What a sample has that sees nothing."""

LANES = 128
"""Samples that a program looks at together."""

_NEAR = tl.constexpr(NEAR)
_TOLERANCE = tl.constexpr(INSIDE_TOLERANCE)
_WIDER = tl.constexpr(0.5 + 1e-4)
_NARROWER = tl.constexpr(0.5 - 1e-4)


class Nearest(NamedTuple):
    """What samples see, and what is known of the faces in passing.

    seen: the nearest (bits of the depth, face) of each sample, or `EMPTY`.
    area: twice the faces' signed areas on the screen.
    boxes: the samples that may see each face: left, top, columns, and how many; none for faces that are left out.
    """

    seen: Int[Tensor, "n h w"]
    area: Float[Tensor, "n f"]
    boxes: Int[Tensor, "4 n f"]


def nearest_faces(
    points: Float[Tensor, "3 n v"], mesh: Topology, height: int, width: int, cull: bool = True
) -> Nearest:
    """The nearest face at every pixel centre, by the rules of `recon.render.rasterize.visible_faces`.

    Args:
        points: the vertices as `Cameras.project` has them, coordinates first.
        mesh: their connectivity.
        height, width: of the pictures, in pixels.
        cull: drop the faces seen from inside.
    """
    _, views, vertices = points.shape
    faces = mesh.corners.shape[1]
    seen = torch.full((views, height, width), EMPTY, device=points.device)
    area = points.new_empty(views, faces)
    boxes = mesh.corners.new_empty(4, views, faces)
    at_once, samples = lanes(faces, height, width)
    _nearest_faces[(triton.cdiv(faces, at_once), views)](
        points.contiguous(),
        mesh.corners,
        seen,
        area,
        boxes,
        vertices,
        faces,
        height,
        width,
        CULL=cull,
        FACES=at_once,
        SAMPLES=samples,
        enable_fp_fusion=False,
    )
    return Nearest(seen, area, boxes)


def lanes(faces: int, height: int, width: int) -> tuple[int, int]:
    """How many faces a program takes, and how many samples of each at a time: about as many as a usual box has."""
    samples = triton.next_power_of_2(max(1, min(height * width // max(faces, 1), LANES // 2)))
    samples = min(max(samples, 4), LANES // 2)
    return LANES // samples, samples


@triton.jit
@no_type_check
def load_corner(points, corners, view, views, vertices, there):
    """x, y and depth of corners on the screen."""
    vertex = tl.load(corners, mask=there, other=0)
    at = points + view * vertices + vertex
    step = views * vertices
    x = tl.load(at, mask=there, other=0.0)
    y = tl.load(at + step, mask=there, other=0.0)
    depth = tl.load(at + 2 * step, mask=there, other=0.0)
    return x, y, depth


@triton.jit
@no_type_check
def _nearest_faces(
    points, corners, seen, areas, boxes, vertices, faces, height, width,
    CULL: tl.constexpr, FACES: tl.constexpr, SAMPLES: tl.constexpr,
):  # fmt: skip
    view, views = tl.program_id(1), tl.num_programs(1)
    face = tl.program_id(0) * FACES + tl.arange(0, FACES)
    there = face < faces
    ax, ay, az = load_corner(points, corners + face, view, views, vertices, there)
    bx, by, bz = load_corner(points, corners + faces + face, view, views, vertices, there)
    cx, cy, cz = load_corner(points, corners + 2 * faces + face, view, views, vertices, there)
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    left = tl.maximum(tl.ceil(tl.minimum(tl.minimum(ax, bx), cx) - _WIDER), 0.0)
    top = tl.maximum(tl.ceil(tl.minimum(tl.minimum(ay, by), cy) - _WIDER), 0.0)
    right = tl.minimum(tl.floor(tl.maximum(tl.maximum(ax, bx), cx) - _NARROWER), width - 1.0)
    bottom = tl.minimum(tl.floor(tl.maximum(tl.maximum(ay, by), cy) - _NARROWER), height - 1.0)
    # Comparisons with what is no number are false, so that each depth is looked at by itself.
    before = (az > _NEAR) & (bz > _NEAR) & (cz > _NEAR)
    candidate = there & (right >= left) & (bottom >= top) & before
    candidate = candidate & ((area < 0) if CULL else (area != 0))
    left = tl.where(candidate, left, 0.0)
    top = tl.where(candidate, top, 0.0)
    columns = tl.where(candidate, right - left + 1.0, 1.0).to(tl.int32)
    rows = tl.where(candidate, bottom - top + 1.0, 0.0).to(tl.int32)
    count = columns * rows
    first = top.to(tl.int32) * width + left.to(tl.int32)
    place = view * faces + face
    table = views * faces
    tl.store(areas + place, area, mask=there)
    tl.store(boxes + place, left.to(tl.int32), mask=there)
    tl.store(boxes + table + place, top.to(tl.int32), mask=there)
    tl.store(boxes + 2 * table + place, columns, mask=there)
    tl.store(boxes + 3 * table + place, count, mask=there)

    # Three functions that are affine on the screen: see `recon.render.rasterize._planes`.
    divisor = tl.where(candidate, area, 1.0)
    rx, ry = left + 0.5, top + 0.5
    ax, ay, bx, by, cx, cy = ax - rx, ay - ry, bx - rx, by - ry, cx - rx, cy - ry
    x0, y0 = tl.div_rn(-(cy - by), divisor), tl.div_rn(cx - bx, divisor)
    x1, y1 = tl.div_rn(-(ay - cy), divisor), tl.div_rn(ax - cx, divisor)
    v0 = -(bx * x0 + by * y0)
    v1 = -(cx * x1 + cy * y1)
    last = tl.div_rn(1.0, tl.where(candidate, cz, 1.0))
    da = tl.div_rn(1.0, tl.where(candidate, az, 1.0)) - last
    db = tl.div_rn(1.0, tl.where(candidate, bz, 1.0)) - last
    v2 = v0 * da + v1 * db + last
    x2 = x0 * da + x1 * db
    y2 = y0 * da + y1 * db

    picture = seen + view.to(tl.int64) * height * width
    most = tl.max(count, axis=0)
    i = 0
    while i < most:
        offset = i + tl.arange(0, SAMPLES)[None, :]
        row = offset // columns[:, None]
        column = offset - row * columns[:, None]
        fx, fy = column.to(tl.float32), row.to(tl.float32)
        b0 = v0[:, None] + x0[:, None] * fx + y0[:, None] * fy
        b1 = v1[:, None] + x1[:, None] * fx + y1[:, None] * fy
        inside = (b0 >= -_TOLERANCE) & (b1 >= -_TOLERANCE) & (b0 + b1 <= 1 + _TOLERANCE)
        inside = inside & (offset < count[:, None])
        inverse = v2[:, None] + x2[:, None] * fx + y2[:, None] * fy
        depth = tl.div_rn(1.0, tl.where(inside, inverse, 1.0))
        bits = depth.to(tl.int32, bitcast=True).to(tl.int64) << 32
        value = bits | face[:, None].to(tl.int64)
        tl.atomic_min(picture + first[:, None] + row * width + column, value, mask=inside, sem="relaxed")
        i += SAMPLES
