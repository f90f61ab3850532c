"""Means over squares of pixels: what a pixel shows, from several samples of it."""

import functools
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def average(planes: Float[Tensor, "c n h w"], factor: int, margin: int = 0) -> Float[Tensor, "c n _ _"]:
    """Means over squares of pixels, with gradient to `planes`.

    Args:
        planes: pictures, channels first.
        factor: pixels along the side of a square.
        margin: pixels on each of the four sides that are left out; what is within is to be a multiple of `factor`.

    Returns:
        Pictures of (h - 2 margin) / factor rows, and so of columns.
    """
    return _BoxFilter.apply(planes, factor, margin)


class _BoxFilter(torch.autograd.Function):
    """Sums of whole columns of the squares, and then of rows, as few additions of large arrays.

    They cost a fifth of a pooling, and less of a mean over two short axes: torch's reductions run along an axis, and
    an axis of two or three entries leaves a vector unit idle.
    """

    @staticmethod
    def forward(ctx: Any, planes: Float[Tensor, "c n h w"], factor: int, margin: int) -> Float[Tensor, "c n _ _"]:
        ctx.shape, ctx.factor, ctx.margin = planes.shape, factor, margin
        lines = _squares(planes, factor, margin).unbind(3)
        return functools.reduce(torch.add, functools.reduce(torch.add, lines).unbind(4)) / factor**2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Float[Tensor, "c n _ _"]) -> tuple[Float[Tensor, "c n h w"], None, None]:
        planes = gradient.new_zeros(ctx.shape)
        shares = gradient / ctx.factor**2
        _squares(planes, ctx.factor, ctx.margin).copy_(shares[:, :, :, None, :, None])
        return planes, None, None


def _squares(planes: Float[Tensor, "c n h w"], factor: int, margin: int) -> Float[Tensor, "c n _ s _ s"]:
    """A view of the pixels within the margin, square by square."""
    _, _, height, width = planes.shape
    inner = planes[..., margin : height - margin, margin : width - margin]
    return inner.unflatten(3, (-1, factor)).unflatten(2, (-1, factor))
