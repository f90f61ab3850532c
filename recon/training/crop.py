"""Random windows of the views, and the weights with which they stand for whole views.

    draw an offset for each view from a known distribution
    weight each pixel by 1 / (the probability that a window holds it)

So the expectation of the weighted loss is the loss of the whole views, wherever windows fall.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from recon.camera import Cameras
from recon.training.data import Batch

DARK = 1 / 255
"""Radiance below which a pixel holds nothing to compare with, on a black background."""


class Windows(NamedTuple):
    """Windows of `size` x `size` pixels; `offsets` are (row, column) of their first pixels.

    The mean of weights * error over the windows estimates the mean error of the whole views.
    """

    offsets: Int[Tensor, "b 2"]
    weights: Float[Tensor, "b s s"]


def draw_windows(occupied: Bool[Tensor, "b h w"], size: int, generator: torch.Generator) -> Windows:
    """One window a view among those that hold an occupied pixel (any, where none is occupied).

    A window without one has no error, so leaving it out saves a step and biases nothing.
    """
    count, height, width = occupied.shape
    any_offset = torch.outer(offset_distribution(height, size), offset_distribution(width, size))
    holds = _box_sum(occupied.cpu().float(), size) > 0.5
    probability = any_offset * (holds | ~holds.any(dim=(1, 2), keepdim=True))
    probability = probability / probability.sum(dim=(1, 2), keepdim=True)
    drawn = torch.multinomial(probability.flatten(1), 1, generator=generator).squeeze(1)
    offsets = torch.stack([drawn // probability.shape[2], drawn % probability.shape[2]], dim=1)
    inclusion = _box_sum(pad(probability, [size - 1] * 4), size)
    weights = size**2 / (height * width * slices(inclusion, offsets, size))
    return Windows(offsets, weights)


def inside_windows(images: Float[Tensor, "b h w 3"], size: int, generator: torch.Generator) -> Windows:
    """Windows with offsets uniform over those inside the picture, unweighted, as the reference work drew them.

    Its loss is that of another picture: a corner counts size^2 times less than the centre.
    """
    count, height, width, _ = images.shape
    offsets = [torch.randint(length - size + 1, (count,), generator=generator) for length in (height, width)]
    return Windows(torch.stack(offsets, dim=1), torch.ones(count, size, size))


def offset_distribution(length: int, size: int) -> Float[Tensor, " o"]:
    """Probability of each offset along an axis of `length` pixels.

    Uniform over offsets that may reach half a window over the border, moved back inside: with offsets
    uniform inside, the border would be seen `size` times less often than the centre.
    """
    last = length - size
    reach = size // 2
    clamped = torch.arange(-reach, last + reach + 1).clamp(0, last)
    return clamped.bincount(minlength=last + 1) / len(clamped)


def occupied_pixels(
    images: Float[Tensor, "b h w 3"], cameras: Cameras, vertices: Float[Tensor, "v 3"]
) -> Bool[Tensor, "b h w"]:
    """Where a view or the bounding box of the mesh's projection shows anything, on black."""
    lit = images.amax(dim=3) > DARK
    screen = cameras.project(vertices.detach())[..., :2]
    low, high = screen.amin(dim=1)[:, None, None], screen.amax(dim=1)[:, None, None]
    row = torch.arange(cameras.height, device=images.device)[:, None] + 0.5
    column = torch.arange(cameras.width, device=images.device)[None, :] + 0.5
    inside_x = (column >= low[..., 0] - 1) & (column <= high[..., 0] + 1)
    inside_y = (row >= low[..., 1] - 1) & (row <= high[..., 1] + 1)
    return lit | (inside_x & inside_y)


def cropped(batch: Batch, size: int, windows: Windows) -> Batch:
    """The windows of a batch of whole views, with their weights."""
    offsets = windows.offsets.to(batch.images.device)
    planes = {
        name: slices(plane, offsets, size)
        for name in ("images", "masks", "guide", "veiled")
        if (plane := getattr(batch, name)) is not None
    }
    cameras = batch.cameras.cropped(offsets, size, size)
    return batch._replace(cameras=cameras, weights=windows.weights.to(batch.images.device), **planes)


def slices(images: Tensor, offsets: Int[Tensor, "b 2"], size: int) -> Tensor:
    """The windows of (b, h, w, ...) images, (b, size, size, ...)."""
    steps = torch.arange(size, device=offsets.device)
    rows = (offsets[:, :1] + steps)[:, :, None]
    columns = (offsets[:, 1:] + steps)[:, None, :]
    view = torch.arange(len(offsets), device=offsets.device)[:, None, None]
    return images[view, rows, columns]


def _box_sum(values: Float[Tensor, "b h w"], size: int) -> Float[Tensor, "b _ _"]:
    """Sums over all windows of `size` x `size` pixels that lie inside, by a summed-area table."""
    table = pad(values.double().cumsum(1).cumsum(2), [1, 0, 1, 0])
    rows = table[:, size:] - table[:, :-size]
    return (rows[:, :, size:] - rows[:, :, :-size]).to(values.dtype)
