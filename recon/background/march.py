"""The field along rays: emission and absorption in intervals (Max 1995, as in NeRF)."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from recon.background.contraction import RADIUS, contract
from recon.background.field import activate
from recon.background.rays import Rays

EMPTY_LENGTH = 1e-6
"""Intervals shorter than this are skipped: rays that miss the sphere have such inside it."""


class Space(NamedTuple):
    """A field, how sharply it may change, and the cells of contracted space where it is looked up."""

    field: nn.Module
    sharpness: float
    cells: Bool[Tensor, "k k k"]


class Passage(NamedTuple):
    """Light along one stretch of rays: what it adds and what it lets through."""

    radiance: Float[Tensor, "r 3"]
    transmittance: Float[Tensor, " r"]


def march(space: Space, rays: Rays, *stretches: Float[Tensor, "r _"]) -> list[Passage]:
    """Through stretches of the rays, each given by the borders of its intervals: distances from the origins.

    All stretches look the field up together: with gradient, a look-up costs what the field is large.
    """
    parts = [_samples(space, rays, borders) for borders in stretches]
    values = space.field(torch.cat([part.points for part in parts]))
    found = values.split([len(part.points) for part in parts])
    return [_passage(space, rays, part, mine) for part, mine in zip(parts, found, strict=True)]


class Samples(NamedTuple):
    """The intervals of a stretch that are looked up, as flat indices into (rays, intervals)."""

    used: Int[Tensor, " s"]
    points: Float[Tensor, "s 3"]
    distance: Float[Tensor, "r k"]
    length: Float[Tensor, "r k"]


def _samples(space: Space, rays: Rays, borders: Float[Tensor, "r _"]) -> Samples:
    distance = (borders[:, 1:] + borders[:, :-1]) / 2
    ends = contract(_along(rays, borders).flatten(0, 1)).view(*borders.shape, 3)
    length = (ends[:, 1:] - ends[:, :-1]).norm(dim=2)
    points = contract(_along(rays, distance).flatten(0, 1))
    used = (cell_of(points, space.cells) & (length.flatten() > EMPTY_LENGTH)).nonzero().squeeze(1)
    return Samples(used, points.index_select(0, used), distance, length)


def _passage(space: Space, rays: Rays, samples: Samples, values: Float[Tensor, "s c"]) -> Passage:
    used, _, distance, length = samples
    ray = torch.div(used, distance.shape[1], rounding_mode="floor")
    medium = activate(values, -rays.directions.index_select(0, ray))
    radiance = medium.reflected / distance.flatten().index_select(0, used)[:, None] ** 2
    if medium.ambient is not None:
        radiance = radiance + medium.ambient
    depth = medium.density * length.flatten().index_select(0, used) * space.sharpness
    optical = depth.new_zeros(distance.numel()).index_copy(0, used, depth).view(distance.shape)
    weight = torch.exp(optical - optical.cumsum(1)) * -torch.expm1(-optical)
    light = weight.flatten().index_select(0, used)[:, None] * radiance
    total = light.new_zeros(len(distance), 3).index_add(0, ray, light)
    return Passage(total, torch.exp(-optical.sum(1)))


def cell_of(points: Float[Tensor, "s 3"], cells: Bool[Tensor, "k k k"]) -> Bool[Tensor, " s"]:
    """Whether contracted points lie in a marked cell."""
    size = cells.shape[0]
    x, y, z = ((points + RADIUS) * (size / (2 * RADIUS))).long().clamp(0, size - 1).unbind(1)
    return cells.flatten().index_select(0, (x * size + y) * size + z)


def _along(rays: Rays, distance: Float[Tensor, "r k"]) -> Float[Tensor, "r k 3"]:
    return rays.origins[:, None] + distance[..., None] * rays.directions[:, None]
