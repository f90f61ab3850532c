"""Textures on the sphere looked up by loops that Numba compiles: the octahedral map and the four texels in one.

The mathematics is that of `recon.model.texture`, which says why, and of torch's `grid_sample`. In torch an iteration at
512 x 512 pixels goes thirty times over an array of millions of points for it. Here a point is looked up in registers,
and once more backward.

Points are cut into parts, as many as are worth a gradient of their own whatever the number of threads, and these
gradients are added in their order: so the result does not depend on the threads.
"""

from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor
from torch.autograd.function import once_differentiable

from recon.render.compiled.parts import MOST_SUMS, equal_parts, side_by_side, summed
from recon.render.compiled.vectors import known_length

_ZERO, _HALF, _ONE = (np.float32(value) for value in (0, 0.5, 1))


def look_up(padded: Float[Tensor, "c m m"], points: Float[Tensor, "p 3"]) -> Float[Tensor, "p c"]:
    """The values of a texture with its border at points of the sphere, with gradient to both."""
    return _LookUp.apply(padded, points)


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, padded: Float[Tensor, "c m m"], points: Float[Tensor, "p 3"]) -> Float[Tensor, "p c"]:
        # Texels with their channels together, points with each coordinate in a row of its own, and so the values.
        texels, places = padded.detach().permute(1, 2, 0).contiguous(), points.detach().T.contiguous()
        values = padded.new_empty(len(padded), len(points))
        arrays = [each.numpy() for each in (texels, places, values)]
        order = known_length(len(padded))
        side_by_side(lambda part: _look_up(*arrays, part.start, part.stop, order), equal_parts(len(points), MOST_SUMS))
        ctx.save_for_backward(texels, places)
        return values.T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_values: Float[Tensor, "p c"]) -> tuple[Float[Tensor, "c m m"], Float[Tensor, "p 3"]]:
        texels, places = ctx.saved_tensors
        of_points = torch.empty_like(places)
        arrays = [each.numpy() for each in (texels, places, of_values.T.contiguous(), of_points)]

        def of_texels(part: slice) -> Float[np.ndarray, "m m c"]:
            sums = np.zeros(texels.shape, np.float32)
            _look_up_back(*arrays, sums, part.start, part.stop, known_length(texels.shape[2]))
            return sums

        # A part has several points for each texel, or it is not worth a gradient of its own.
        parts = max(1, min(MOST_SUMS, places.numel() // texels.numel()))
        sums = summed(of_texels, equal_parts(places.shape[1], parts))
        return torch.from_numpy(sums).permute(2, 0, 1), of_points.T


@njit(nogil=True, error_model="numpy")
@no_type_check
def _unfold(x, y, z, texels):
    """The first of the four texels around a point, along both axes, and how far the point is from it."""
    total = abs(x) + abs(y) + abs(z)
    x, y = x / total, y / total
    if z < _ZERO:
        x, y = (_ONE - abs(y)) * _sign(x), (_ONE - abs(x)) * _sign(y)
    # The border is beyond [-1, 1]; texel i has its centre at i + 1/2.
    half = np.float32(texels - 2) * _HALF
    right, down = x * half + np.float32(texels - 1) * _HALF, y * half + np.float32(texels - 1) * _HALF
    # What is no number looks somewhere, and finds no number.
    column = min(int(right), texels - 2) if right >= _ZERO else 0
    row = min(int(down), texels - 2) if down >= _ZERO else 0
    return row, column, down - np.float32(row), right - np.float32(column)


@njit(nogil=True, error_model="numpy")
@no_type_check
def _sign(value):
    return -_ONE if value < _ZERO else _ONE


@njit(nogil=True, error_model="numpy")
@no_type_check
def _slope(value):
    """Of the absolute value: 0 at 0, as in torch."""
    return _ZERO if value == _ZERO else _sign(value)


@njit(nogil=True, error_model="numpy", cache=True)
@no_type_check
def _look_up(texels, points, values, start, stop, order):
    size, channels = len(texels), len(order)
    for p in range(start, stop):
        row, column, down, right = _unfold(points[0, p], points[1, p], points[2, p], size)
        up, left = _ONE - down, _ONE - right
        for k in range(channels):
            values[k, p] = (
                texels[row, column, k] * (up * left)
                + texels[row, column + 1, k] * (up * right)
                + texels[row + 1, column, k] * (down * left)
                + texels[row + 1, column + 1, k] * (down * right)
            )


@njit(nogil=True, error_model="numpy", cache=True)
@no_type_check
def _look_up_back(texels, points, of_values, of_points, sums, start, stop, order):
    size, channels = len(texels), len(order)
    half = np.float32(size - 2) * _HALF
    for p in range(start, stop):
        x, y, z = points[0, p], points[1, p], points[2, p]
        row, column, down, right = _unfold(x, y, z, size)
        up, left = _ONE - down, _ONE - right
        of_x, of_y = _ZERO, _ZERO
        for k in range(channels):
            of = of_values[k, p]
            sums[row, column, k] += of * (up * left)
            sums[row, column + 1, k] += of * (up * right)
            sums[row + 1, column, k] += of * (down * left)
            sums[row + 1, column + 1, k] += of * (down * right)
            first, second = texels[row, column, k], texels[row, column + 1, k]
            third, fourth = texels[row + 1, column, k], texels[row + 1, column + 1, k]
            of_x += of * (up * (second - first) + down * (fourth - third))
            of_y += of * (left * (third - first) + right * (fourth - second))
        of_x, of_y = of_x * half, of_y * half
        total = abs(x) + abs(y) + abs(z)
        x, y, z = x / total, y / total, z / total
        if z < _ZERO:
            # What was folded out: each place depends on the other coordinate.
            of_x, of_y = -of_y * _sign(y) * _slope(x), -of_x * _sign(x) * _slope(y)
        along = of_x * x + of_y * y
        of_points[0, p] = (of_x - along * _slope(x)) / total
        of_points[1, p] = (of_y - along * _slope(y)) / total
        of_points[2, p] = -along * _slope(z) / total
