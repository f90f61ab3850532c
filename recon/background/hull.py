"""Which pixels show the object: those that the field alone explains in no view.

    for every pixel: how far is the photograph from the field without a surface?
    for every point in the unit sphere: the mean of what the pixels say that show it
    for every pixel: the best supported point on its ray

A visual hull (Laurentini 1994) whose silhouettes are not given but more or less likely, fused in space
as in Franco and Boyer 2005, "Fusion of Multi-View Silhouette Cues Using a Space Occupancy Grid". Before a wall
of nearly its brightness an object is told from it in some views only; the others lend their knowledge.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from recon.background.background import Background, no_shift
from recon.background.rays import inner_borders, rays_through
from recon.camera import Cameras

ALIKE = 0.03
"""Difference of radiance up to which two explanations of a pixel count as alike."""

DARK = 0.03
"""Radiance that says nothing of where it comes from."""

AGAINST, FOR = -4.0, 0.5
"""Most that one pixel says against a point and for it, as logarithms: it sees the field through a point that
is not the object's, but may see the object before or behind such a point."""

SUPPORTED = 0.2
"""Mean from which a point is the object's; below 0 it is not, and between them nobody knows."""

CELLS = 64
"""Points along each axis of the unit sphere."""

STEPS = 48
"""Points along a ray through it."""

FINEST = 128
"""Rays along the longer side of a view: to the guide no more is known."""

CHUNK = 4096
"""Rays marched at once."""


class Evidence(NamedTuple):
    """Of a grid of pixels in every view: mean absolute difference of the photograph from the field alone, and
    how much that says, which is little where both are dark. Both are 0 beside the unit sphere."""

    difference: Float[Tensor, "n r c"]
    weight: Float[Tensor, "n r c"]


@torch.no_grad()
def object_guide(
    background: Background, cameras: Cameras, images: Float[Tensor, "n h w 3"]
) -> Float[Tensor, "n h w 2"]:
    """The object's likely coverage of every pixel, 0 or 1, and how sure that is, 0 to 1."""
    rows, columns = grid_of_pixels(cameras)
    evidence = gather(background, cameras, images, rows, columns)
    support = supported(cameras, evidence, rows, columns)
    guides = []
    for view in range(len(cameras)):
        best = best_on_rays(support, cameras[[view]], rows, columns)
        guide = judged(best, evidence.difference[view]).permute(2, 0, 1)[None]
        guides.append(interpolate(guide, size=(cameras.height, cameras.width))[0].permute(1, 2, 0))
    return torch.stack(guides)


def grid_of_pixels(cameras: Cameras) -> tuple[Int[Tensor, " r"], Int[Tensor, " c"]]:
    """Rows and columns of evenly spaced pixels."""
    stride = math.ceil(max(cameras.height, cameras.width) / FINEST)
    device = cameras.intrinsics.device
    rows, columns = (torch.arange(stride // 2, side, stride, device=device) for side in (cameras.height, cameras.width))
    return rows, columns


def gather(
    background: Background,
    cameras: Cameras,
    images: Float[Tensor, "n h w 3"],
    rows: Int[Tensor, " r"],
    columns: Int[Tensor, " c"],
) -> Evidence:
    """What the views say of the field."""
    pixels = (rows[:, None] * cameras.width + columns).flatten()
    evidence = torch.zeros(2, len(cameras), len(pixels), device=pixels.device)
    for view in range(len(cameras)):
        rays = rays_through(cameras[[view]], pixels)
        for place in (rays.leave > rays.enter).nonzero().squeeze(1).split(CHUNK):
            some = rays_through(cameras[[view]], pixels[place])
            around = background.surroundings(some, no_shift(some))
            alone = around.around(torch.zeros_like(around.behind.radiance), torch.zeros_like(some.enter))
            shown = images[view].flatten(0, 1).index_select(0, pixels[place])
            light = (shown + alone).mean(1)
            evidence[0, view, place] = (shown - alone).abs().mean(1)
            evidence[1, view, place] = light / (light + 3 * DARK)
    return Evidence(*evidence.view(2, len(cameras), len(rows), len(columns)))


def supported(
    cameras: Cameras, evidence: Evidence, rows: Int[Tensor, " r"], columns: Int[Tensor, " c"]
) -> Float[Tensor, "k k k"]:
    """How well the views support that points of the unit sphere are the object's, `AGAINST` to `FOR`."""
    stride = (int(rows[0]) * 2 + 1) if len(rows) == 1 else int(rows[1] - rows[0])
    axis = (torch.arange(CELLS, device=rows.device) + 0.5) * (2 / CELLS) - 1
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=3).view(-1, 3)
    total, weights = torch.zeros_like(points[:, 0]), torch.full_like(points[:, 0], 1e-6)
    says = (evidence.difference.clamp(min=1e-6) / (ALIKE / 2)).log().clamp(AGAINST, FOR)
    for view in range(len(cameras)):
        x, y, depth = cameras[[view]].project(points)[0].unbind(1)
        shown = (depth > 0) & (x >= 0) & (x < cameras.width) & (y >= 0) & (y < cameras.height)
        row, column = ((c / stride).long().clamp(0, len(a) - 1) for c, a in ((y, rows), (x, columns)))
        weight = torch.where(shown, evidence.weight[view, row, column], 0)
        total += weight * says[view, row, column]
        weights += weight
    support = torch.where(points.norm(dim=1) < 1, total / weights, AGAINST)
    return support.view(CELLS, CELLS, CELLS)


def best_on_rays(
    support: Float[Tensor, "k k k"], cameras: Cameras, rows: Int[Tensor, " r"], columns: Int[Tensor, " c"]
) -> Float[Tensor, "r c"]:
    """The largest support along the rays of one view."""
    pixels = (rows[:, None] * cameras.width + columns).flatten()
    best = torch.full(pixels.shape, AGAINST, device=pixels.device)
    rays = rays_through(cameras, pixels)
    for place in (rays.leave > rays.enter).nonzero().squeeze(1).split(CHUNK):
        some = rays_through(cameras, pixels[place])
        along = inner_borders(some, STEPS, no_shift(some))
        points = some.origins[:, None] + along[..., None] * some.directions[:, None]
        # grid_sample takes coordinates from the last axis to the first.
        found = grid_sample(support[None, None], points.flip(2)[None, None], align_corners=False)
        best[place] = found[0, 0, 0].amax(1)
    return best.view(len(rows), len(columns))


def judged(best: Float[Tensor, "r c"], difference: Float[Tensor, "r c"]) -> Float[Tensor, "r c 2"]:
    """Coverage and how sure it is, from the best support on the rays and from what the pixels say themselves."""
    own = 1 - torch.exp(-((difference / ALIKE) ** 2))
    inside = best > SUPPORTED
    return torch.stack([inside.float(), torch.where(inside, own, (best < 0).float())], dim=2)
