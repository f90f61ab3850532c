"""Volume rendering of the field: emission and absorption along rays, in intervals of constant density.

    optical depth of an interval   = density * sharpness * its contracted length
    share stopped there            = exp(-depths before it) * (1 - exp(-its own))
    light                          = sum of shares * what the interval's middle sends to the camera

(Max 1995, "Optical models for direct volume rendering"; Mildenhall et al. 2020, NeRF, equation 3.)
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from recon.background.contraction import RADIUS, contract
from recon.background.grid import GridField
from recon.background.medium import activate
from recon.background.rays import NEAR, Rays
from recon.render.kernels.serving import serves


class SampledField(NamedTuple):
    """A field and how it is sampled.

    Attributes:
        field: contracted points (s, 3) to values (s, c) of `recon.background.medium`.
        sharpness: what densities are multiplied with: how soon the field can go from clear to opaque.
        cells: of contracted space, (k, k, k), outside which the field is taken for empty.
        view_dependent: whether what it shows depends on the direction.
    """

    field: nn.Module
    sharpness: float
    cells: Bool[Tensor, "k k k"]
    view_dependent: bool = True


class RaySegment(NamedTuple):
    """Light along one segment of each ray: what it adds (linear radiance) and the share that it lets through."""

    radiance: Float[Tensor, "r 3"]
    transmittance: Float[Tensor, " r"]
    weights: Float[Tensor, "r k"]
    """Share of the light that enters the segment from its far end and is stopped by each interval."""


def render_segments(space: SampledField, rays: Rays, *segments: Float[Tensor, "r _"]) -> list[RaySegment]:
    """The light of some segments of the rays.

    Args:
        segments: for each, the edges of its intervals along the rays, (rays, intervals + 1), in radii of the unit
            sphere from the rays' origins.

    On a CPU compiled loops do it where the field is a grid.
    """
    follow = compiled_segments if _loops_serve(space, rays) else torch_segments
    return follow(space, rays, *segments)


def _loops_serve(space: SampledField, rays: Rays) -> bool:
    device, dtype = rays.enter.device, rays.enter.dtype
    on_cpu = isinstance(space.field, GridField) and device.type == "cpu" and dtype == torch.float32
    return on_cpu and serves(_trial, device, "the background's field")


def _trial(device: torch.device) -> None:
    from recon.background.trial import check

    check(device)


def compiled_segments(space: SampledField, rays: Rays, *segments: Float[Tensor, "r _"]) -> list[RaySegment]:
    """`render_segments` of a grid, by loops that are compiled."""
    from recon.background.compiled import segments_of_light

    assert isinstance(space.field, GridField)
    found = segments_of_light(
        list(space.field.grids),
        space.field.sizes,
        rays,
        space.cells.numpy(),
        space.sharpness,
        segments,
        view_dependent=space.view_dependent,
    )
    return [RaySegment(*each) for each in found]


def torch_segments(space: SampledField, rays: Rays, *segments: Float[Tensor, "r _"]) -> list[RaySegment]:
    """`render_segments` in torch.

    All segments look the field up in one call: the backward pass of a look-up costs what the whole grid costs,
    however few its points.
    """
    parts = [_samples(space, rays, t_edges) for t_edges in segments]
    values = space.field(torch.cat([part.points for part in parts]))
    found = values.split([len(part.points) for part in parts])
    return [
        _passage(space, rays, part, mine, t_edges.shape[1] - 1)
        for part, mine, t_edges in zip(parts, found, segments, strict=True)
    ]


class Samples(NamedTuple):
    """The intervals of a segment in which the field is looked up: flat indices into (rays, intervals), and of each
    the contracted middle, its distance from the camera, and the contracted length."""

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
    squared, towards = _light(rays, ray, samples.distance)
    medium = activate(values, towards, space.view_dependent)
    radiance = medium.reflected / squared[:, None]
    if medium.ambient is not None:
        radiance = radiance + medium.ambient
    depth = medium.density * samples.length * space.sharpness
    optical = depth.new_zeros(len(rays.enter) * count).index_copy(0, samples.used, depth).view(-1, count)
    weight = torch.exp(optical - optical.cumsum(1)) * -torch.expm1(-optical)
    light = weight.flatten().index_select(0, samples.used)[:, None] * radiance
    total = light.new_zeros(len(rays.enter), 3).index_add(0, ray, light)
    return RaySegment(total, torch.exp(-optical.sum(1)), weight)


def _light(
    rays: Rays, ray: Int[Tensor, " s"], distance: Float[Tensor, " s"]
) -> tuple[Float[Tensor, " s"], Float[Tensor, "s 3"]]:
    """Squared distance from samples to the lights of their rays, at least that at which rays begin, and unit directions
    to these."""
    if rays.lights is None:
        return distance**2, -rays.directions.index_select(0, ray)
    offset = rays.lights.index_select(0, ray) - _along(rays, ray, distance)
    squared = offset.square().sum(1).clamp(min=NEAR**2)
    return squared, offset * squared.rsqrt()[:, None]


def cell_of(points: Float[Tensor, "s 3"], cells: Bool[Tensor, "k k k"]) -> Bool[Tensor, " s"]:
    """Whether contracted points (s, 3) lie in a marked one of the (k, k, k) cells of [-RADIUS, RADIUS]^3."""
    size = cells.shape[0]
    x, y, z = ((points + RADIUS) * (size / (2 * RADIUS))).long().clamp(0, size - 1).unbind(1)
    return cells.flatten().index_select(0, (x * size + y) * size + z)


def _along(rays: Rays, ray: Int[Tensor, " s"], distance: Float[Tensor, " s"]) -> Float[Tensor, "s 3"]:
    return rays.origins.index_select(0, ray) + distance[:, None] * rays.directions.index_select(0, ray)
