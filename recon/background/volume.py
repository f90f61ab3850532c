"""The field along rays: emission and absorption in intervals (Max 1995, as in NeRF)."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from recon.background.contraction import RADIUS, contract
from recon.background.medium import activate
from recon.background.rays import Rays


class SampledField(NamedTuple):
    """A field, how sharply it may change, the cells of contracted space where it is looked up, and whether
    what it shows depends on the direction."""

    field: nn.Module
    sharpness: float
    cells: Bool[Tensor, "k k k"]
    view_dependent: bool = True


class RaySegment(NamedTuple):
    """Light along one segment of rays: what it adds and what it lets through."""

    radiance: Float[Tensor, "r 3"]
    transmittance: Float[Tensor, " r"]
    weights: Float[Tensor, "r k"]
    """Share of the light that enters the segment from its far end and is stopped by each interval."""


def render_segments(space: SampledField, rays: Rays, *segments: Float[Tensor, "r _"]) -> list[RaySegment]:
    """Through segments of the rays, each given by the t_edges of its intervals: distances from the origins.

    All segments look the field up together: with gradient, a look-up costs what the field is large.
    """
    parts = [_samples(space, rays, t_edges) for t_edges in segments]
    values = space.field(torch.cat([part.points for part in parts]))
    found = values.split([len(part.points) for part in parts])
    return [
        _passage(space, rays, part, mine, t_edges.shape[1] - 1)
        for part, mine, t_edges in zip(parts, found, segments, strict=True)
    ]


class Samples(NamedTuple):
    """The intervals of a segment that are looked up: flat indices into (rays, intervals), and of each
    the contracted point, its distance from the camera, and the contracted length."""

    used: Int[Tensor, " s"]
    points: Float[Tensor, "s 3"]
    distance: Float[Tensor, " s"]
    length: Float[Tensor, " s"]


def _samples(space: SampledField, rays: Rays, t_edges: Float[Tensor, "r _"]) -> Samples:
    start, end = t_edges[:, :-1].flatten(), t_edges[:, 1:].flatten()
    count = t_edges.shape[1] - 1
    middle = (start + end) / 2
    ray = torch.arange(len(t_edges), device=t_edges.device).repeat_interleave(count)
    # Most of space is empty: find that out first, and measure only what is left.
    points = contract(_along(rays, ray, middle))
    used = (cell_of(points, space.cells) & (end > start)).nonzero().squeeze(1)
    ray = ray.index_select(0, used)
    near, far = (contract(_along(rays, ray, border.index_select(0, used))) for border in (start, end))
    return Samples(used, points.index_select(0, used), middle.index_select(0, used), (far - near).norm(dim=1))


def _passage(space: SampledField, rays: Rays, samples: Samples, values: Float[Tensor, "s c"], count: int) -> RaySegment:
    ray = torch.div(samples.used, count, rounding_mode="floor")
    medium = activate(values, -rays.directions.index_select(0, ray), space.view_dependent)
    radiance = medium.reflected / samples.distance[:, None] ** 2
    if medium.ambient is not None:
        radiance = radiance + medium.ambient
    depth = medium.density * samples.length * space.sharpness
    optical = depth.new_zeros(len(rays.enter) * count).index_copy(0, samples.used, depth).view(-1, count)
    weight = torch.exp(optical - optical.cumsum(1)) * -torch.expm1(-optical)
    light = weight.flatten().index_select(0, samples.used)[:, None] * radiance
    total = light.new_zeros(len(rays.enter), 3).index_add(0, ray, light)
    return RaySegment(total, torch.exp(-optical.sum(1)), weight)


def cell_of(points: Float[Tensor, "s 3"], cells: Bool[Tensor, "k k k"]) -> Bool[Tensor, " s"]:
    """Whether contracted points lie in a marked cell."""
    size = cells.shape[0]
    x, y, z = ((points + RADIUS) * (size / (2 * RADIUS))).long().clamp(0, size - 1).unbind(1)
    return cells.flatten().index_select(0, (x * size + y) * size + z)


def _along(rays: Rays, ray: Int[Tensor, " s"], distance: Float[Tensor, " s"]) -> Float[Tensor, "s 3"]:
    return rays.origins.index_select(0, ray) + distance[:, None] * rays.directions.index_select(0, ray)
