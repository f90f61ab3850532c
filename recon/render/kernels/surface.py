"""Where samples' rays meet the faces that they see, and what is interpolated there: forward and backward.

`recon.render.intersect` has the mathematics. Forward, every sample looks up its face. Backward, every face looks for
its samples, in the box that the rasteriser left, and adds up what they give to its corners; then every vertex adds up
its corners. So no two threads add to one number.
"""

from typing import Any, NamedTuple, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from recon.camera import Cameras
from recon.render.kernels.rasterize import Nearest, lanes
from recon.render.kernels.sums import sums_at
from recon.render.kernels.topology import Topology

BLOCK = 256


class Seen(NamedTuple):
    """What every sample sees, in the order (view, row, column).

    mixed: attributes of the vertices, interpolated, and their normals, not unit. points: in the world. Both carry
    gradient. depth: along the optical axis.

    Where nothing is seen, the depth and the normal are 0, the point is somewhere on the ray, and the attributes are
    those of some vertex, each time another: a shader finds what it may find on the surface, and textures get their
    zeros all over the sphere rather than in one place, where threads would queue.
    """

    mixed: Float[Tensor, "k p"]
    points: Float[Tensor, "3 p"]
    depth: Float[Tensor, " p"]


def surface(
    vertices: Float[Tensor, "v 3"],
    attributes: Float[Tensor, "k v"],
    mesh: Topology,
    cameras: Cameras,
    nearest: Nearest,
) -> Seen:
    """What the samples of `nearest` see, with gradient to vertices and attributes.

    Args:
        vertices: in the world.
        attributes: of the vertices, and last the three coordinates of their normals.
        mesh: their connectivity.
        cameras: of the pictures; they get no gradient.
        nearest: from `nearest_faces` of the same mesh and cameras.
    """
    return Seen(*_Surface.apply(vertices, attributes, mesh, rays_of(cameras), nearest))


@torch.no_grad()
def rays_of(cameras: Cameras) -> Float[Tensor, "n 12"]:
    """Of each camera what tells its rays: R K^-1, row by row, and its centre.

    K is upper triangular, so that its inverse is written down; the general one waits for the device.
    """
    fx, skew, cx = cameras.intrinsics[:, 0].unbind(1)
    fy, cy = cameras.intrinsics[:, 1, 1], cameras.intrinsics[:, 1, 2]
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    inverse = [1 / fx, -skew / (fx * fy), (skew * cy / fy - cx) / fx, zero, 1 / fy, -cy / fy, zero, zero, one]
    # Written out: as a matrix product it would be rounded by whatever precision products have.
    rotation = cameras.camera_to_world[:, :3, :3]
    directions = (rotation[..., None] * torch.stack(inverse, dim=1).view(-1, 1, 3, 3)).sum(2)
    return torch.cat([directions.flatten(1), cameras.centers], dim=1)


class _Surface(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        vertices: Float[Tensor, "v 3"],
        attributes: Float[Tensor, "k v"],
        mesh: Topology,
        rays: Float[Tensor, "n 12"],
        nearest: Nearest,
    ) -> tuple[Float[Tensor, "k p"], Float[Tensor, "3 p"], Float[Tensor, " p"]]:
        table, attributes = vertices.T.contiguous(), attributes.contiguous()
        views, height, width = nearest.seen.shape
        samples = nearest.seen.numel()
        mixed = table.new_empty(len(attributes), samples)
        points, depth = table.new_empty(3, samples), table.new_empty(samples)
        _forward[(triton.cdiv(samples, BLOCK),)](
            table,
            attributes,
            mesh.corners,
            rays,
            nearest.seen,
            mixed,
            points,
            depth,
            len(vertices),
            mesh.corners.shape[1],
            samples,
            height,
            width,
            CHANNELS=len(attributes),
            BLOCK=BLOCK,
            enable_fp_fusion=False,
        )
        ctx.save_for_backward(table, attributes, rays, *nearest)
        ctx.mesh = mesh
        ctx.mark_non_differentiable(depth)
        return mixed, points, depth

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_mixed: Float[Tensor, "k p"], of_points: Float[Tensor, "3 p"], _: Any
    ) -> tuple[Float[Tensor, "v 3"], Float[Tensor, "k v"], None, None, None]:
        table, attributes, rays, seen, _, boxes = ctx.saved_tensors
        mesh: Topology = ctx.mesh
        views, height, width = seen.shape
        faces, channels = mesh.corners.shape[1], len(attributes)
        at_corners = table.new_empty(views, 3 + channels, 3 * faces)
        at_once, samples = lanes(faces, height, width)
        _backward[(triton.cdiv(faces, at_once), views)](
            table,
            attributes,
            mesh.corners,
            rays,
            seen,
            boxes,
            of_mixed.contiguous(),
            of_points.contiguous(),
            at_corners,
            table.shape[1],
            faces,
            height,
            width,
            CHANNELS=channels,
            PADDED=triton.next_power_of_2(channels),
            FACES=at_once,
            SAMPLES=samples,
            enable_fp_fusion=False,
        )
        sums = sums_at(at_corners, mesh.at_corners)
        return sums[:3].T, sums[3:], None, None, None


@triton.jit
@no_type_check
def _load_point(table, vertices, vertex, there):
    x = tl.load(table + vertex, mask=there, other=0.0)
    y = tl.load(table + vertices + vertex, mask=there, other=0.0)
    z = tl.load(table + 2 * vertices + vertex, mask=there, other=0.0)
    return x, y, z


@triton.jit
@no_type_check
def _cross(ax, ay, az, bx, by, bz):
    return ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx


@triton.jit
@no_type_check
def _ray(camera, x, y):
    """Direction through the point (x, y) of the picture of the camera whose numbers start at `camera`."""
    dx = x * tl.load(camera) + (y * tl.load(camera + 1) + tl.load(camera + 2))
    dy = x * tl.load(camera + 3) + (y * tl.load(camera + 4) + tl.load(camera + 5))
    dz = x * tl.load(camera + 6) + (y * tl.load(camera + 7) + tl.load(camera + 8))
    return dx, dy, dz


@triton.jit
@no_type_check
def _forward(
    table, attributes, corners, cameras, seen, mixed, points, depths, vertices, faces, samples, height, width,
    CHANNELS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    sample = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = sample < samples
    view = sample // (height * width)
    inner = sample - view * height * width
    row = inner // width
    x, y = (inner - row * width).to(tl.float32) + 0.5, row.to(tl.float32) + 0.5
    face = (tl.load(seen + sample, mask=there, other=-1) & 0xFFFFFFFF).to(tl.int32)
    hit = there & (face >= 0)
    i = tl.load(corners + face, mask=hit, other=0)
    j = tl.load(corners + faces + face, mask=hit, other=0)
    k = tl.load(corners + 2 * faces + face, mask=hit, other=0)
    ax, ay, az = _load_point(table, vertices, i, hit)
    bx, by, bz = _load_point(table, vertices, j, hit)
    cx, cy, cz = _load_point(table, vertices, k, hit)
    camera = cameras + 12 * tl.where(there, view, 0)
    dx, dy, dz = _ray(camera, x, y)
    ox, oy, oz = tl.load(camera + 9), tl.load(camera + 10), tl.load(camera + 11)
    ux, uy, uz = bx - ax, by - ay, bz - az
    vx, vy, vz = cx - ax, cy - ay, cz - az
    tx, ty, tz = ox - ax, oy - ay, oz - az
    nx, ny, nz = _cross(dx, dy, dz, vx, vy, vz)
    mx, my, mz = _cross(tx, ty, tz, ux, uy, uz)
    scale = tl.div_rn(1.0, tl.where(hit, ux * nx + uy * ny + uz * nz, 1.0))
    b1 = (tx * nx + ty * ny + tz * nz) * scale
    b2 = (dx * mx + dy * my + dz * mz) * scale
    depth = (vx * mx + vy * my + vz * mz) * scale
    b0 = 1 - b1 - b2
    along = tl.where(hit, depth, 1.0)
    tl.store(depths + sample, tl.where(hit, depth, 0.0), mask=there)
    tl.store(points + sample, ox + along * dx, mask=there)
    tl.store(points + samples + sample, oy + along * dy, mask=there)
    tl.store(points + 2 * samples + sample, oz + along * dz, mask=there)
    for channel in tl.static_range(CHANNELS):
        of = attributes + channel * vertices
        first = tl.load(of + i, mask=hit, other=0.0)
        second = tl.load(of + j, mask=hit, other=0.0)
        third = tl.load(of + k, mask=hit, other=0.0)
        value = b0 * first + b1 * second + b2 * third
        filled = there & ~hit & (channel < CHANNELS - 3)
        instead = tl.load(of + sample % vertices, mask=filled, other=0.0)
        tl.store(mixed + channel * samples.to(tl.int64) + sample, tl.where(hit, value, instead), mask=there)


@triton.jit
@no_type_check
def _backward(
    table, attributes, corners, cameras, seen, boxes, of_mixed, of_points, at_corners, vertices, faces, height, width,
    CHANNELS: tl.constexpr, PADDED: tl.constexpr, FACES: tl.constexpr, SAMPLES: tl.constexpr,
):  # fmt: skip
    view, views = tl.program_id(1), tl.num_programs(1)
    face = tl.program_id(0) * FACES + tl.arange(0, FACES)
    there = face < faces
    place = view * faces + face
    rank = views * faces
    left = tl.load(boxes + place, mask=there, other=0)
    top = tl.load(boxes + rank + place, mask=there, other=0)
    columns = tl.load(boxes + 2 * rank + place, mask=there, other=1)
    count = tl.load(boxes + 3 * rank + place, mask=there, other=0)
    i = tl.load(corners + face, mask=there, other=0)
    j = tl.load(corners + faces + face, mask=there, other=0)
    k = tl.load(corners + 2 * faces + face, mask=there, other=0)
    ax, ay, az = _load_point(table, vertices, i, there)
    bx, by, bz = _load_point(table, vertices, j, there)
    cx, cy, cz = _load_point(table, vertices, k, there)
    camera = cameras + 12 * view
    tx, ty, tz = tl.load(camera + 9) - ax, tl.load(camera + 10) - ay, tl.load(camera + 11) - az
    ux, uy, uz = bx - ax, by - ay, bz - az
    vx, vy, vz = cx - ax, cy - ay, cz - az
    gx, gy, gz = _cross(ux, uy, uz, vx, vy, vz)
    mx, my, mz = _cross(tx, ty, tz, ux, uy, uz)
    channel = tl.arange(0, PADDED)
    known = there[:, None] & (channel < CHANNELS)[None, :]
    of = attributes + channel[None, :] * vertices
    first = tl.load(of + i[:, None], mask=known, other=0.0)
    second = tl.load(of + j[:, None], mask=known, other=0.0)
    third = tl.load(of + k[:, None], mask=known, other=0.0)

    samples = views.to(tl.int64) * height * width
    picture = view.to(tl.int64) * height * width
    a0 = tl.zeros((FACES, PADDED), tl.float32)
    a1 = tl.zeros((FACES, PADDED), tl.float32)
    a2 = tl.zeros((FACES, PADDED), tl.float32)
    x0 = tl.zeros((FACES,), tl.float32)
    y0, z0, x1, y1, z1, x2, y2, z2 = x0, x0, x0, x0, x0, x0, x0, x0
    most = tl.max(count, axis=0)
    at = 0
    while at < most:
        offset = at + tl.arange(0, SAMPLES)[None, :]
        row = offset // columns[:, None]
        column = left[:, None] + offset - row * columns[:, None]
        row += top[:, None]
        sample = picture + row * width + column
        within = offset < count[:, None]
        own = within & ((tl.load(seen + sample, mask=within, other=-1) & 0xFFFFFFFF) == face[:, None])
        dx, dy, dz = _ray(camera, column.to(tl.float32) + 0.5, row.to(tl.float32) + 0.5)
        nx, ny, nz = _cross(dx, dy, dz, vx[:, None], vy[:, None], vz[:, None])
        determinant = ux[:, None] * nx + uy[:, None] * ny + uz[:, None] * nz
        scale = tl.div_rn(1.0, tl.where(own, determinant, 1.0))
        b1 = (tx[:, None] * nx + ty[:, None] * ny + tz[:, None] * nz) * scale
        b2 = (dx * mx[:, None] + dy * my[:, None] + dz * mz[:, None]) * scale
        b0 = tl.where(own, 1 - b1 - b2, 0.0)
        b1 = tl.where(own, b1, 0.0)
        b2 = tl.where(own, b2, 0.0)
        wanted = own[:, :, None] & (channel < CHANNELS)[None, None, :]
        given = tl.load(of_mixed + channel[None, None, :] * samples + sample[:, :, None], mask=wanted, other=0.0)
        by0 = tl.sum(given * first[:, None, :], axis=2)
        by1 = tl.sum(given * second[:, None, :], axis=2)
        by2 = tl.sum(given * third[:, None, :], axis=2)
        along = tl.load(of_points + sample, mask=own, other=0.0) * dx
        along += tl.load(of_points + samples + sample, mask=own, other=0.0) * dy
        along += tl.load(of_points + 2 * samples + sample, mask=own, other=0.0) * dz
        wx, wy, wz = _cross(dx, dy, dz, ux[:, None], uy[:, None], uz[:, None])
        p, q, r = (by0 - by1) * scale, (by2 - by0) * scale, along * scale
        px = tl.where(own, p * nx + q * wx - r * gx[:, None], 0.0)
        py = tl.where(own, p * ny + q * wy - r * gy[:, None], 0.0)
        pz = tl.where(own, p * nz + q * wz - r * gz[:, None], 0.0)
        x0 += tl.sum(b0 * px, axis=1)
        y0 += tl.sum(b0 * py, axis=1)
        z0 += tl.sum(b0 * pz, axis=1)
        x1 += tl.sum(b1 * px, axis=1)
        y1 += tl.sum(b1 * py, axis=1)
        z1 += tl.sum(b1 * pz, axis=1)
        x2 += tl.sum(b2 * px, axis=1)
        y2 += tl.sum(b2 * py, axis=1)
        z2 += tl.sum(b2 * pz, axis=1)
        a0 += tl.sum(b0[:, :, None] * given, axis=1)
        a1 += tl.sum(b1[:, :, None] * given, axis=1)
        a2 += tl.sum(b2[:, :, None] * given, axis=1)
        at += SAMPLES

    line = 3 * faces
    out = at_corners + view.to(tl.int64) * (3 + CHANNELS) * line + face
    tl.store(out, x0, mask=there)
    tl.store(out + faces, x1, mask=there)
    tl.store(out + 2 * faces, x2, mask=there)
    tl.store(out + line, y0, mask=there)
    tl.store(out + line + faces, y1, mask=there)
    tl.store(out + line + 2 * faces, y2, mask=there)
    tl.store(out + 2 * line, z0, mask=there)
    tl.store(out + 2 * line + faces, z1, mask=there)
    tl.store(out + 2 * line + 2 * faces, z2, mask=there)
    out = out[:, None] + (3 + channel)[None, :] * line
    tl.store(out, a0, mask=known)
    tl.store(out + faces, a1, mask=known)
    tl.store(out + 2 * faces, a2, mask=known)
