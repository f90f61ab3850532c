"""From samples to pixels: `recon.render.box_filter` and `antialias` at once.

Blending changes the samples beside silhouettes by what is in proportion to their difference, and a pixel is the mean of
its samples. So the changes are added to the pixels, and no picture of samples is needed.
"""

from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int
from numba import njit
from torch import Tensor
from torch.autograd.function import once_differentiable

from recon.render.antialias import Crossings
from recon.render.compiled.parts import side_by_side
from recon.render.compiled.surface import Grid

_ZERO, _HALF = np.float32(0), np.float32(0.5)


def picture(
    radiance: Float[Tensor, "3 p"],
    sample: Int[Tensor, "n h w"],
    grid: Grid,
    samples: int,
    crossings: Crossings | None,
) -> Float[Tensor, "4 n a b"]:
    """Radiance and alpha of pixels, with gradient to the radiance of samples and, by crossings, to the vertices.

    Args:
        radiance: of the samples that see something.
        sample: which of these each sample is, -1 where it sees nothing.
        grid: which samples make up which pixels.
        samples: along the side of a pixel.
        crossings: silhouettes between samples, to be blended; None: there is no blending.
    """
    if crossings is None:
        nothing = sample.new_empty(0, dtype=torch.int64)
        crossings = Crossings(nothing, nothing, radiance.new_empty(0))
    return _Picture.apply(radiance, crossings.distance, crossings.near, crossings.far, sample, grid, samples)


class _Picture(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        radiance: Float[Tensor, "3 p"],
        distance: Float[Tensor, " c"],
        near: Int[Tensor, " c"],
        far: Int[Tensor, " c"],
        sample: Int[Tensor, "n h w"],
        grid: Grid,
        samples: int,
    ) -> Float[Tensor, "4 n a b"]:
        image = radiance.new_empty(4, len(sample), *grid.size)
        saved = [each.detach().contiguous() for each in (radiance, distance, near, far, sample)]
        colors, *crossings, numbers = (each.numpy() for each in saved)
        pixels, margin = image.numpy(), int((grid.rows >= 0).argmax())
        side_by_side(lambda view: _average(colors, numbers, pixels, view, samples, margin), range(len(sample)))
        _blend(colors, *crossings, numbers, *grid, pixels, samples)
        ctx.save_for_backward(*saved)
        ctx.grid, ctx.samples = grid, samples
        return image

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Float[Tensor, "4 n a b"]) -> Any:
        radiance, distance, *_, sample = ctx.saved_tensors
        of_radiance, of_distance = torch.empty_like(radiance), torch.empty_like(distance)
        saved = [each.numpy() for each in ctx.saved_tensors]
        given, found, numbers = gradient.contiguous().numpy(), of_radiance.numpy(), sample.numpy()
        grid, samples = ctx.grid, ctx.samples
        side_by_side(lambda view: _spread(given, numbers, *grid, found, view, samples), range(len(sample)))
        _blend_back(*saved, *grid, given, found, of_distance.numpy(), samples)
        return of_radiance, of_distance, None, None, None, None, None


@njit(nogil=True, error_model="numpy", cache=True)
@no_type_check
def _average(radiance, sample, image, view, samples, margin):
    """Sums columns of a pixel's samples, and then of rows, as `recon.render.box_filter` does."""
    _, _, height, width = image.shape
    share = np.float32(samples * samples)
    for up in range(height):
        for left in range(width):
            red, green, blue, seen = _ZERO, _ZERO, _ZERO, 0
            for column in range(margin + left * samples, margin + left * samples + samples):
                r, g, b = _ZERO, _ZERO, _ZERO
                for row in range(margin + up * samples, margin + up * samples + samples):
                    i = sample[view, row, column]
                    if i >= 0:
                        r, g, b = r + radiance[0, i], g + radiance[1, i], b + radiance[2, i]
                        seen += 1
                red, green, blue = red + r, green + g, blue + b
            image[0, view, up, left], image[1, view, up, left] = red / share, green / share
            image[2, view, up, left], image[3, view, up, left] = blue / share, np.float32(seen) / share


@njit(nogil=True, error_model="numpy")
@no_type_check
def _pixel(place, height, width, rows, columns):
    """View, row and column of the pixel of a sample, the row -1 if it is in the margin."""
    line = place // width
    view = line // height
    up, left = rows[line - view * height], columns[place - line * width]
    return view, up if left >= 0 else left, left


@njit(nogil=True, error_model="numpy", cache=True)
@no_type_check
def _blend(radiance, distance, near, far, sample, rows, columns, image, samples):
    """See `recon.render.antialias.antialias`."""
    _, height, width = sample.shape
    numbers, share = sample.reshape(-1), np.float32(samples * samples)
    for c in range(len(distance)):
        view, up, left = _pixel(near[c] if distance[c] < _HALF else far[c], height, width, rows, columns)
        if up < 0:
            continue
        moved = (distance[c] - _HALF) / share
        i, j = numbers[near[c]], numbers[far[c]]
        for k in range(3):
            before, beyond = radiance[k, i] if i >= 0 else _ZERO, radiance[k, j] if j >= 0 else _ZERO
            image[k, view, up, left] += moved * (before - beyond)
        image[3, view, up, left] += moved * np.float32((i >= 0) - (j >= 0))


@njit(nogil=True, error_model="numpy", cache=True)
@no_type_check
def _spread(gradient, sample, rows, columns, found, view, samples):
    """The gradient of each sample's radiance by that of its pixel's; 0 in the margin."""
    _, height, width = sample.shape
    share = np.float32(samples * samples)
    for row in range(height):
        up = rows[row]
        for column in range(width):
            i = sample[view, row, column]
            if i < 0:
                continue
            left = columns[column]
            inside = up >= 0 and left >= 0
            for k in range(3):
                found[k, i] = gradient[k, view, up, left] / share if inside else _ZERO


@njit(nogil=True, error_model="numpy", cache=True)
@no_type_check
def _blend_back(radiance, distance, near, far, sample, rows, columns, gradient, found, of_distance, samples):
    """Adds what crossings change in the gradient of radiance; fills in that of their distances."""
    _, height, width = sample.shape
    numbers, share = sample.reshape(-1), np.float32(samples * samples)
    for c in range(len(distance)):
        of_distance[c] = _ZERO
        view, up, left = _pixel(near[c] if distance[c] < _HALF else far[c], height, width, rows, columns)
        if up < 0:
            continue
        moved = (distance[c] - _HALF) / share
        i, j = numbers[near[c]], numbers[far[c]]
        total = gradient[3, view, up, left] * np.float32((i >= 0) - (j >= 0))
        for k in range(3):
            of = gradient[k, view, up, left]
            if i >= 0:
                total += of * radiance[k, i]
                found[k, i] += moved * of
            if j >= 0:
                total -= of * radiance[k, j]
                found[k, j] -= moved * of
        of_distance[c] = total / share
