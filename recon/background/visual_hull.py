"""Which pixels show the object: those that the field alone explains in no view.

    for every pixel: how far is the photograph from the field without a surface?
    for every point in the unit sphere: the mean of what the pixels say that show it
    for every pixel: the best supported point on its ray

A visual hull (Laurentini 1994) whose silhouettes are not given but more or less likely, fused in space
as in Franco and Boyer 2005, "Fusion of Multi-View Silhouette Cues Using a SampledField Occupancy Grid". Before a wall
of nearly its brightness an object is told from it in some views only; the others lend their knowledge.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate, max_pool2d

from recon.background.contraction import RADIUS
from recon.background.field import BackgroundField, no_jitter
from recon.background.rays import inner_t_edges, rays_into_sphere
from recon.background.visible_cells import cell_centers
from recon.camera import Cameras

ALIKE = 0.03
"""Difference of radiance up to which two explanations of a pixel count as alike."""

DARK = 0.03
"""Radiance at which a pixel counts a quarter: what is dark in photograph and field shows neither."""

AGAINST, FOR = -4.0, 0.5
"""Bounds of what one pixel says of a point, as logarithms. Against it a pixel may say much: who sees the field through
a point knows that the object is not there. For it, little: the object may stand before or behind the point."""

SUPPORTED = 0.2
"""Mean from which a point counts as the object's. Below 0 it does not; between the two it stays open."""

BORDER = 0.25
"""Factor of the confidence of pixels at the rim of a mask: they may show the object in part, or be noise."""

CELLS = 64
"""Points along each axis of the unit sphere."""

STEPS = 48
"""Points along a ray through it."""

FINEST = 128
"""Pixels along the longer side of the views that are looked at: the pseudo-masks know no more."""


def shrunk(
    cameras: Cameras,
    images: Float[Tensor, "n h w 3"],
    known: Float[Tensor, "n h w"] | None = None,
    finest: int = FINEST,
) -> tuple[Cameras, Float[Tensor, "n r c 3"], Float[Tensor, "n r c"] | None]:
    """The same views, and which of their pixels are known, with at most `finest` pixels along each side, and never more
    than `FINEST`."""
    factor = min(finest, FINEST) / max(cameras.height, cameras.width)
    if factor >= 1:
        return cameras, images, known
    height, width = (max(round(factor * side), 1) for side in (cameras.height, cameras.width))
    scale = torch.tensor([width / cameras.width, height / cameras.height, 1.0]).to(cameras.intrinsics)
    small = replace(cameras, intrinsics=scale[:, None] * cameras.intrinsics, height=height, width=width)
    fewer = interpolate(images.permute(0, 3, 1, 2), size=(height, width), mode="area").permute(0, 2, 3, 1)
    if known is not None:
        # In part is not known: its colour is that of no photograph.
        known = (interpolate(known[:, None], size=(height, width), mode="area")[:, 0] == 1).float()
    return small, fewer, known


class Evidence(NamedTuple):
    """What the photographs say of every pixel. Both are 0 where rays miss the unit sphere.

    Attributes:
        difference: mean absolute difference of the photograph from the field alone.
        weight: 0 to 1, how much that says: little where both are dark.
    """

    difference: Float[Tensor, "n h w"]
    weight: Float[Tensor, "n h w"]


@torch.no_grad()
def pseudo_masks_from_field(
    background: BackgroundField,
    cameras: Cameras,
    images: Float[Tensor, "n h w 3"],
    known: Float[Tensor, "n h w"] | None = None,
) -> Float[Tensor, "n h w 2"]:
    """The object's likely alpha in every pixel, 0 or 1, and how sure that is, 0 to 1.

    Args:
        background: a field that has been trained for a while, so that it explains what is not the object.
        images: linear radiance of the views of `cameras`.
        known: 0 in pixels that no photograph shows; None: all are.
    """
    difference, weight = gather(background, cameras, images)
    weight = weight if known is None else weight * known
    says = (difference.clamp(min=1e-6) / (ALIKE / 2)).log().clamp(AGAINST, FOR)
    support = supported(cameras, says, weight)
    best = torch.stack([best_on_rays(support, cameras[[view]]) for view in range(len(cameras))])
    inside = best > SUPPORTED
    own = 1 - torch.exp(-((difference / ALIKE) ** 2))
    border = max_pool2d((~inside | (own < 0.5)).float(), 3, stride=1, padding=1) > 0
    own = own * torch.where(border, BORDER, 1)
    return torch.stack([inside.float(), torch.where(inside, own, (best < 0).float())], dim=3)


def gather(background: BackgroundField, cameras: Cameras, images: Float[Tensor, "n h w 3"]) -> Evidence:
    """Compare every photograph with the field alone, in the pixels whose rays meet the unit sphere."""
    pictures = images.flatten(1, 2)
    difference, weight = (torch.zeros_like(pictures[..., 0]) for _ in range(2))
    for view in range(len(cameras)):
        for pixel, rays in rays_into_sphere(cameras[[view]]):
            alone = background.outer_segments(rays, no_jitter(rays)).without_surface
            shown = pictures[view].index_select(0, pixel)
            light = (shown + alone).mean(1)
            difference[view, pixel] = (shown - alone).abs().mean(1)
            weight[view, pixel] = light / (light + 3 * DARK)
    shape = images.shape[:3]
    return Evidence(difference.view(shape), weight.view(shape))


def supported(cameras: Cameras, says: Float[Tensor, "n h w"], weight: Float[Tensor, "n h w"]) -> Float[Tensor, "k k k"]:
    """How well the views support that points of the unit sphere are the object's.

    Args:
        says: of every pixel, `AGAINST` to `FOR`, whether it shows the object.
        weight: how much that counts.

    Returns:
        On a grid over [-1, 1]^3: the weighted mean of what the pixels say in which a point lies; 0 where none does,
        and `AGAINST` outside the unit sphere.
    """
    points = cell_centers(CELLS, says.device) / RADIUS
    total, weights = torch.zeros_like(points[:, 0]), torch.full_like(points[:, 0], 1e-6)
    for view in range(len(cameras)):
        x, y, depth = cameras[[view]].project(points)[0].unbind(1)
        shown = (depth > 0) & (x >= 0) & (x < cameras.width) & (y >= 0) & (y < cameras.height)
        column, row = x.long().clamp(0, cameras.width - 1), y.long().clamp(0, cameras.height - 1)
        counts = torch.where(shown, weight[view, row, column], 0)
        total += counts * says[view, row, column]
        weights += counts
    support = torch.where(points.norm(dim=1) < 1, total / weights, AGAINST)
    return support.view(CELLS, CELLS, CELLS)


def best_on_rays(support: Float[Tensor, "k k k"], cameras: Cameras) -> Float[Tensor, "h w"]:
    """The largest support along each ray of one view; `AGAINST` where it misses the unit sphere."""
    best = torch.full((cameras.height * cameras.width,), AGAINST, device=support.device)
    for pixel, rays in rays_into_sphere(cameras):
        along = inner_t_edges(rays, STEPS, no_jitter(rays))
        points = rays.origins[:, None] + along[..., None] * rays.directions[:, None]
        # grid_sample takes coordinates from the last axis to the first.
        found = grid_sample(support[None, None], points.flip(2)[None, None], align_corners=False)
        best[pixel] = found[0, 0, 0].amax(1)
    return best.view(cameras.height, cameras.width)
