"""The field along rays: emission and absorption in intervals (Max 1995, as in NeRF)."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from recon.background.contraction import RADIUS, contract
from recon.background.field import activate
from recon.background.rays import Rays


class Space(NamedTuple):
    """A field, how sharply it may change, and the cells of contracted space where it is looked up."""

    field: nn.Module
    sharpness: float
    cells: Bool[Tensor, "k k k"]


class Passage(NamedTuple):
    """Light along one stretch of rays: what it adds and what it lets through."""

    radiance: Float[Tensor, "r 3"]
    transmittance: Float[Tensor, " r"]


def march(space: Space, rays: Rays, borders: Float[Tensor, "r k"]) -> Passage:
    """Through the intervals between `borders`, distances from the origins of the rays."""
    distance = (borders[:, 1:] + borders[:, :-1]) / 2
    ends = contract(_along(rays, borders).flatten(0, 1)).view(*borders.shape, 3)
    length = (ends[:, 1:] - ends[:, :-1]).norm(dim=2).flatten()
    points = contract(_along(rays, distance).flatten(0, 1))
    used = (cell_of(points, space.cells) & (length > 1e-6)).nonzero().squeeze(1)
    ray = torch.div(used, distance.shape[1], rounding_mode="floor")
    values = space.field(points.index_select(0, used))
    medium = activate(values, -rays.directions.index_select(0, ray))
    radiance = medium.reflected / distance.flatten().index_select(0, used)[:, None] ** 2
    if medium.ambient is not None:
        radiance = radiance + medium.ambient
    depth = medium.density * length.index_select(0, used) * space.sharpness
    shape = distance.shape
    optical = depth.new_zeros(shape.numel()).index_copy(0, used, depth).view(shape)
    through = torch.exp(optical - optical.cumsum(1))
    weight = through * -torch.expm1(-optical)
    light = weight.flatten().index_select(0, used)[:, None] * radiance
    total = light.new_zeros(shape[0], 3).index_add(0, ray, light)
    return Passage(total, torch.exp(-optical.sum(1)))


def cell_of(points: Float[Tensor, "s 3"], cells: Bool[Tensor, "k k k"]) -> Bool[Tensor, " s"]:
    """Whether contracted points lie in a marked cell."""
    size = cells.shape[0]
    x, y, z = ((points + RADIUS) * (size / (2 * RADIUS))).long().clamp(0, size - 1).unbind(1)
    return cells.flatten().index_select(0, (x * size + y) * size + z)


def _along(rays: Rays, distance: Float[Tensor, "r k"]) -> Float[Tensor, "r k 3"]:
    return rays.origins[:, None] + distance[..., None] * rays.directions[:, None]
