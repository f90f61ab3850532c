"""The light of rays through a grid field, by loops that Numba compiles: a ray goes its whole way at once, and back.

The mathematics is that of `recon.background.volume`, which says why, of `medium` and of `grid`. In torch an iteration
goes a hundred times over arrays with a row for each sample. Here a sample is looked up and seen in registers; what is
kept of it for the way back is what the field says there.

A ray depends on no other. Gradients are added to the cells of the grids plane by plane, in the order of the samples, so
that any number of threads gives the same bits.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor
from torch.autograd.function import once_differentiable

from recon.background.contraction import RADIUS
from recon.background.rays import NEAR, Rays
from recon.render.compiled.parts import equal_parts, side_by_side
from recon.render.compiled.vectors import known_length

RAYS = 256
"""Rays that are worth a thread."""

SLABS = 8
"""Parts of a grid whose gradients are added up side by side."""

OPAQUE = 16.0
"""Optical depth behind which nothing is looked up where no gradient is asked for: less than a 10^-7th would be seen."""

_OPAQUE = np.float32(OPAQUE)
_RADIUS, _WIDTH, _NEAR = (np.float32(value) for value in (RADIUS, 2 * RADIUS, NEAR))
_ZERO, _ONE, _TWO, _TWENTY = (np.float32(value) for value in (0, 1, 2, 20))


class Path(NamedTuple):
    """Where rays are sampled: arrays of numpy.

    Attributes:
        origins, directions: (r, 3).
        lights: (r, 3); none, (0, 3), where light comes from the origins.
        t_edges: of the intervals of all segments, (r, k + segments).
        borders: the first column of each segment in `t_edges`, and the number of columns.
        cells: of contracted space, 0 where nothing is, (m, m, m).
        sharpness, view_dependent: as `recon.background.volume.SampledField` has them.
    """

    origins: np.ndarray
    directions: np.ndarray
    lights: np.ndarray
    t_edges: np.ndarray
    borders: np.ndarray
    cells: np.ndarray
    sharpness: np.float32
    view_dependent: bool


class Kept(NamedTuple):
    """What the way back needs of the samples: those of a ray follow one another from row `first` on, `number` of them.

    Attributes:
        column: of each sample's interval, among those of all segments.
        values: what the field says there, activated where the medium is; (s, c).
        points: contracted, (s, 3).
        reach: optical depth for a density of one, and the share of light that gets past the sample; (s, 2).
    """

    first: np.ndarray
    number: np.ndarray
    column: np.ndarray
    values: np.ndarray
    points: np.ndarray
    reach: np.ndarray

    @classmethod
    def empty(cls, rays: int, each: int, channels: int) -> "Kept":
        """For at most `each` samples of a ray."""
        first, number = np.zeros(rays, np.int64), np.zeros(rays, np.int64)
        most = rays * each
        values, points, reach = (np.empty((most, size), np.float32) for size in (channels, 3, 2))
        return cls(first, number, np.empty(most, np.int32), values, points, reach)


def segments_of_light(
    grids: Sequence[Float[Tensor, "_ c"]],
    sizes: tuple[int, int],
    rays: Rays,
    cells: np.ndarray,
    sharpness: float,
    segments: Sequence[Float[Tensor, "r _"]],
    *,
    view_dependent: bool,
) -> list[tuple[Float[Tensor, "r 3"], Float[Tensor, " r"], Float[Tensor, "r _"]]]:
    """Radiance, transmittance and weights of each segment, with gradient to the grids and the rays' lights.

    Args:
        grids: cells in row-major order, coarse and fine, `sizes` cubed of them.
        cells, sharpness, view_dependent: see `Path`.
        segments: edges of the intervals of each, as `recon.background.volume.render_segments` takes them.
    """
    borders = np.cumsum([0, *(each.shape[1] for each in segments)])
    lights = rays.origins.new_empty(0, 3) if rays.lights is None else rays.lights
    t_edges = torch.cat(list(segments), dim=1)
    origins, directions, sources, edges = (
        each.detach().contiguous().numpy() for each in (rays.origins, rays.directions, lights, t_edges)
    )
    path = Path(origins, directions, sources, edges, borders, cells, np.float32(sharpness), view_dependent)
    # Within a function of autograd gradients are off, so whether they are asked for is found out here.
    keep = torch.is_grad_enabled() and any(each.requires_grad for each in (*grids, lights))
    radiance, transmittance, weights = _Light.apply(*grids, lights, sizes, path, keep)
    parts = weights.split([each.shape[1] - 1 for each in segments], dim=1)
    return list(zip(radiance.unbind(0), transmittance.unbind(0), parts, strict=True))


class _Light(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        coarse: Float[Tensor, "_ c"],
        fine: Float[Tensor, "_ c"],
        lights: Float[Tensor, "_ 3"],
        sizes: tuple[int, int],
        path: Path,
        keep: bool,
    ) -> tuple[Float[Tensor, "k r 3"], Float[Tensor, "k r"], Float[Tensor, "r _"]]:
        grids = [each.detach().contiguous().numpy() for each in (coarse, fine)]
        count, segments = len(path.origins), len(path.borders) - 1
        intervals = path.t_edges.shape[1] - segments
        kept = Kept.empty(count, intervals if keep else 1, coarse.shape[1])
        light = [coarse.new_empty(size) for size in ((segments, count, 3), (segments, count), (count, intervals))]
        found = [each.numpy() for each in light]
        order = known_length(coarse.shape[1])
        arrays = *grids, *sizes, *path, *kept, *found
        side_by_side(lambda part: _follow(*arrays, part.start, part.stop, keep, order), _parts(count))
        if keep:
            ctx.kept, ctx.path, ctx.sizes, ctx.weights = kept, path, sizes, found[2]
            ctx.lengths = len(coarse), len(fine)
        return light[0], light[1], light[2]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        path, kept = ctx.path, ctx.kept
        given = [each.contiguous().numpy() for each in gradients]
        of_values, of_lights = np.empty_like(kept.values), np.zeros_like(path.lights)
        order = known_length(kept.values.shape[1])
        arrays = *path, *kept, *given, ctx.weights, of_values, of_lights
        side_by_side(lambda part: _go_back(*arrays, part.start, part.stop, order), _parts(len(path.origins)))
        sums = [
            _of_grid(kept, of_values, size, length, order) for size, length in zip(ctx.sizes, ctx.lengths, strict=True)
        ]
        return *sums, torch.from_numpy(of_lights), None, None, None


def _of_grid(kept: Kept, of_values: np.ndarray, size: int, length: int, order: tuple[int, ...]) -> Tensor:
    """The gradient of a grid's cells by that of what was looked up in it."""
    sums = np.zeros((length, len(order)), np.float32)
    slabs = equal_parts(size, min(SLABS, size))
    samples = kept.first, kept.number, kept.points
    side_by_side(lambda slab: _spread(*samples, of_values, sums, size, slab.start, slab.stop, order), slabs)
    return torch.from_numpy(sums)


def _parts(rays: int) -> list[slice]:
    return equal_parts(rays, max(1, -(-rays // RAYS)))


@njit(nogil=True, error_model="numpy", cache=True, fastmath={"contract"})
@no_type_check
def _follow(
    coarse, fine, few, many, origins, directions, lights, t_edges, borders, cells, sharpness, view_dependent,
    first, number, column, values, points, reach, radiance, transmittance, weights, start, stop, keep, order,
):  # fmt: skip
    size, least = len(cells), _NEAR * _NEAR
    intervals = weights.shape[1]
    row = start * intervals if keep else start
    for r in range(start, stop):
        first[r] = row
        for s in range(len(borders) - 1):
            red, green, blue, depth, through = _ZERO, _ZERO, _ZERO, _ZERO, _ONE
            for edge in range(borders[s], borders[s + 1] - 1):
                near, far = t_edges[r, edge], t_edges[r, edge + 1]
                weights[r, edge - s] = _ZERO
                if not far > near or (not keep and depth > _OPAQUE):
                    continue
                middle = (near + far) / _TWO
                x, y, z = _contracted(origins, directions, r, middle)
                if not cells[_cell(x, size), _cell(y, size), _cell(z, size)]:
                    continue
                a, b, c = _contracted(origins, directions, r, near)
                u, v, w = _contracted(origins, directions, r, far)
                length = math.sqrt((u - a) * (u - a) + (v - b) * (v - b) + (w - c) * (w - c)) * sharpness

                found = values[row]
                for k in range(len(order)):
                    found[k] = _ZERO
                _look_up(coarse, few, x, y, z, found, order)
                _look_up(fine, many, x, y, z, found, order)
                found[0] = _softplus(found[0])
                optical = found[0] * length
                weight = through * -math.expm1(-optical)
                depth += optical
                through = math.exp(-depth)
                weights[r, edge - s] = weight

                squared, a, b, c = _light(origins, directions, lights, r, middle, least)
                factor = _ONE
                if view_dependent:
                    factor = max(_ZERO, found[4] + (found[5] * a + found[6] * b + found[7] * c))
                for k in range(1, 4):
                    found[k] = _softplus(found[k])
                for k in range(8, len(order)):
                    found[k] = _softplus(found[k])
                factor = factor / squared
                if len(order) > 8:
                    red += weight * (found[1] * factor + found[8])
                    green += weight * (found[2] * factor + found[9])
                    blue += weight * (found[3] * factor + found[10])
                else:
                    red += weight * (found[1] * factor)
                    green += weight * (found[2] * factor)
                    blue += weight * (found[3] * factor)
                if keep:
                    column[row] = edge - s
                    points[row, 0], points[row, 1], points[row, 2] = x, y, z
                    reach[row, 0], reach[row, 1] = length, through
                    row += 1
            radiance[s, r, 0], radiance[s, r, 1], radiance[s, r, 2] = red, green, blue
            transmittance[s, r] = through
        number[r] = row - first[r]


@njit(nogil=True, error_model="numpy", cache=True, fastmath={"contract"})
@no_type_check
def _go_back(
    origins, directions, lights, t_edges, borders, cells, sharpness, view_dependent,
    first, number, column, values, points, reach, of_radiance, of_transmittance, of_weights, weights,
    of_values, of_lights, start, stop, order,
):  # fmt: skip
    least = _NEAR * _NEAR
    for r in range(start, stop):
        n = first[r] + number[r] - 1
        for s in range(len(borders) - 2, -1, -1):
            # What the optical depth of a sample takes from all that is seen past it.
            beyond = _ZERO
            if n >= first[r] and column[n] >= borders[s] - s:
                beyond = of_transmittance[s, r] * reach[n, 1]
            red, green, blue = of_radiance[s, r, 0], of_radiance[s, r, 1], of_radiance[s, r, 2]
            while n >= first[r] and column[n] >= borders[s] - s:
                found, of = values[n], of_values[n]
                edge = column[n] + s
                middle = (t_edges[r, edge] + t_edges[r, edge + 1]) / _TWO
                weight = weights[r, column[n]]
                squared, a, b, c = _light(origins, directions, lights, r, middle, least)
                turned = _ONE
                if view_dependent:
                    turned = found[4] + (found[5] * a + found[6] * b + found[7] * c)
                factor = max(turned, _ZERO) / squared

                seen = red * found[1] + green * found[2] + blue * found[3]
                of_weight = of_weights[r, column[n]] + seen * factor
                if len(order) > 8:
                    of_weight += red * found[8] + green * found[9] + blue * found[10]
                    of[8] = weight * red * _slope(found[8])
                    of[9] = weight * green * _slope(found[9])
                    of[10] = weight * blue * _slope(found[10])
                of[0] = (of_weight * reach[n, 1] - beyond) * reach[n, 0] * _slope(found[0])
                beyond += of_weight * weight
                of[1] = weight * red * factor * _slope(found[1])
                of[2] = weight * green * factor * _slope(found[2])
                of[3] = weight * blue * factor * _slope(found[3])
                of_turned = weight * seen / squared if view_dependent and turned >= _ZERO else _ZERO
                of[4], of[5], of[6], of[7] = of_turned, of_turned * a, of_turned * b, of_turned * c
                if len(lights):
                    of_squared = -weight * seen * factor / squared
                    _of_light(of_lights[r], of_squared, of_turned, found, origins, directions, lights, r, middle, least)
                n -= 1


@njit(nogil=True, error_model="numpy", cache=True)
@no_type_check
def _spread(first, number, points, of_values, sums, size, low, high, order):
    """The gradient of the cells in the planes `low` to `high` of a grid."""
    for r in range(len(first)):
        for n in range(first[r], first[r] + number[r]):
            i, right = _place(points[n, 0], size)
            if i + 1 < low or i >= high:
                continue
            j, down = _place(points[n, 1], size)
            k, back = _place(points[n, 2], size)
            for plane in range(max(i, low), min(i + 2, high)):
                share = right if plane > i else _ONE - right
                for beside in range(2):
                    part = share * (down if beside else _ONE - down)
                    cell = (plane * size + j + beside) * size + k
                    for channel in range(len(order)):
                        sums[cell, channel] += of_values[n, channel] * (part * (_ONE - back))
                        sums[cell + 1, channel] += of_values[n, channel] * (part * back)


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
@no_type_check
def _contracted(origins, directions, r, distance):
    """See `recon.background.contraction`."""
    x = origins[r, 0] + distance * directions[r, 0]
    y = origins[r, 1] + distance * directions[r, 1]
    z = origins[r, 2] + distance * directions[r, 2]
    radius = max(math.sqrt(x * x + y * y + z * z), _ONE)
    factor = (_TWO - _ONE / radius) / radius
    return x * factor, y * factor, z * factor


@njit(nogil=True, error_model="numpy")
@no_type_check
def _cell(x, size):
    """See `recon.background.volume.cell_of`."""
    return min(max(int((x + _RADIUS) * (np.float32(size) / _WIDTH)), 0), size - 1)


@njit(nogil=True, error_model="numpy")
@no_type_check
def _place(x, size):
    """The first of the two planes of a grid around a point along an axis, and how far the point is from it."""
    where = (x + _RADIUS) * (np.float32(size - 1) / _WIDTH)
    plane = min(max(int(where), 0), size - 2)  # of what is below 0, the first
    return plane, where - np.float32(plane)


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
@no_type_check
def _look_up(table, size, x, y, z, found, order):
    """Adds what a grid says at a contracted point."""
    i, right = _place(x, size)
    j, down = _place(y, size)
    k, back = _place(z, size)
    left, up, front = _ONE - right, _ONE - down, _ONE - back
    cell = (i * size + j) * size + k
    a, b, c, d = cell, cell + size, cell + size * size, cell + size * size + size
    for channel in range(len(order)):
        found[channel] += (
            left * up * (front * table[a, channel] + back * table[a + 1, channel])
            + left * down * (front * table[b, channel] + back * table[b + 1, channel])
            + right * up * (front * table[c, channel] + back * table[c + 1, channel])
            + right * down * (front * table[d, channel] + back * table[d + 1, channel])
        )


@njit(nogil=True, error_model="numpy")
@no_type_check
def _to_light(origins, directions, lights, r, distance):
    x = lights[r, 0] - origins[r, 0] - distance * directions[r, 0]
    y = lights[r, 1] - origins[r, 1] - distance * directions[r, 1]
    z = lights[r, 2] - origins[r, 2] - distance * directions[r, 2]
    return x, y, z


@njit(nogil=True, error_model="numpy")
@no_type_check
def _light(origins, directions, lights, r, distance, least):
    """Squared distance of a sample to its light, `least` or more, and the unit direction there."""
    if not len(lights):
        return distance * distance, -directions[r, 0], -directions[r, 1], -directions[r, 2]
    x, y, z = _to_light(origins, directions, lights, r, distance)
    squared = max(x * x + y * y + z * z, least)
    inverse = _ONE / math.sqrt(squared)
    return squared, x * inverse, y * inverse, z * inverse


@njit(nogil=True, error_model="numpy")
@no_type_check
def _of_light(of, of_squared, of_turned, found, origins, directions, lights, r, distance, least):
    """Adds the gradient of a light's place by those of a squared distance to it and of a cosine."""
    x, y, z = _to_light(origins, directions, lights, r, distance)
    length = x * x + y * y + z * z
    squared = max(length, least)
    inverse = _ONE / math.sqrt(squared)
    a, b, c = of_turned * found[5], of_turned * found[6], of_turned * found[7]
    # The direction is the offset over the root of the squared distance.
    along = _TWO * of_squared - (a * x + b * y + c * z) * inverse / squared if length >= least else _ZERO
    of[0] += a * inverse + along * x
    of[1] += b * inverse + along * y
    of[2] += c * inverse + along * z


@njit(nogil=True, error_model="numpy")
@no_type_check
def _softplus(value):
    return value if value > _TWENTY else math.log1p(math.exp(value))


@njit(nogil=True, error_model="numpy")
@no_type_check
def _slope(value):
    """Of the softplus, where that is `value`."""
    return -math.expm1(-value)
