"""Random crops of the views, and the weights with which they stand for whole views.

    draw an offset for each view from a known distribution
    weight each pixel by 1 / (the probability that a crop holds it)

So the expectation of the weighted loss is the loss of the whole views, wherever crops fall.
"""

import functools
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn.functional import pad

from recon.camera import Cameras
from recon.config import WHOLE_VIEWS, TrainConfig
from recon.images.black import BLACK
from recon.training.data import Batch

CPU = torch.device("cpu")


class Crops(NamedTuple):
    """Crops of `size` x `size` pixels; `offsets` are (row, column) of their first pixels.

    The mean of weights * error over the crops estimates the mean error of the whole views.
    """

    offsets: Int[Tensor, "b 2"]
    weights: Float[Tensor, "b s s"]


def views_per_iteration(config: TrainConfig, height: int, width: int) -> int:
    """As many as the configuration says, or else `WHOLE_VIEWS`, or the crops that make up their pixels.

    Most of an iteration is the flow, so rendering fewer pixels saves little time and leaves the gradient noisier; the
    same number of pixels comes from more viewpoints.
    """
    if config.views_per_iteration is not None:
        return config.views_per_iteration
    size = config.crop.size
    return WHOLE_VIEWS if size is None else round(WHOLE_VIEWS * (min(height, width) / size) ** 2)


def draw_crops(occupied: Bool[Tensor, "b h w"], size: int, generator: torch.Generator) -> Crops:
    """One crop a view among those that hold an occupied pixel (any, where none is occupied), on the CPU.

    A crop without one has no error, so leaving it out saves a step and biases nothing.
    """
    return crops_at(occupied.cpu(), size, torch.rand(len(occupied), 1, generator=generator))


def crops_at(occupied: Bool[Tensor, "b h w"], size: int, uniform: Float[Tensor, "b 1"], static: bool = False) -> Crops:
    """The crops that numbers drawn from [0, 1) stand for, on the device of `occupied`: see `draw_crops`.

    `static`: the same steps whatever is occupied, so that none has to wait for a device.
    """
    probability, inclusion = _static_probabilities(occupied, size) if static else _probabilities(occupied, size)
    # As multinomial does, which takes ten times as long.
    below = probability.flatten(1).double().cumsum(1)
    values = below[:, -1:] * uniform
    drawn = torch.searchsorted(below.squeeze(0), values, right=True).squeeze(1)
    offsets = torch.stack([drawn // probability.shape[2], drawn % probability.shape[2]], dim=1)
    return Crops(offsets, crop_weights(inclusion.expand(len(occupied), -1, -1), offsets, size))


def offset_probability(occupied: Bool[Tensor, "b h w"], size: int) -> Float[Tensor, "b r c"]:
    """How probable each (row, column) offset is; zero for crops that hold no occupied pixel."""
    _, height, width = occupied.shape
    holds = _box_sum(occupied, size) > 0
    probability = _uniform(height, width, size, occupied.device) * (holds | ~holds.any(dim=(1, 2), keepdim=True))
    return probability / probability.sum(dim=(1, 2), keepdim=True)


@functools.lru_cache(maxsize=8)
def anywhere(
    height: int, width: int, size: int, device: torch.device = CPU
) -> tuple[Float[Tensor, "1 r c"], Float[Tensor, "1 h w"]]:
    """The probabilities of offsets, and of pixels to lie in a crop, where every crop may be drawn."""
    if device != CPU:
        offsets, inclusion = anywhere(height, width, size)
        return offsets.to(device), inclusion.to(device)
    offsets = _uniform(height, width, size, device)[None]
    return offsets, inclusion_probability(offsets, size)


def inclusion_probability(offsets: Float[Tensor, "b r c"], size: int) -> Float[Tensor, "b h w"]:
    """How probable it is that a crop holds a pixel, from the probabilities of the crops' offsets."""
    return _box_sum(pad(offsets, [size - 1] * 4), size).to(offsets.dtype)


def crop_weights(inclusion: Float[Tensor, "b h w"], offsets: Int[Tensor, "b 2"], size: int) -> Float[Tensor, "b s s"]:
    """The share of a crop in the whole view, over how probable it is that a crop holds the pixel."""
    return size**2 / (inclusion[0].numel() * slices(inclusion, offsets, size))


def inside_crops(images: Float[Tensor, "b h w 3"], size: int, generator: torch.Generator) -> Crops:
    """One offset for all views, uniform over those inside the picture, without weights: the reference work's.

    Its loss is that of another picture: a corner counts size^2 times less than the centre.
    """
    count, height, width, _ = images.shape
    offsets = [torch.randint(length - size + 1, (1,), generator=generator) for length in (height, width)]
    return Crops(torch.stack(offsets, dim=1).expand(count, -1), torch.ones(count, size, size))


def offset_distribution(length: int, size: int) -> Float[Tensor, " o"]:
    """Probability of each offset along an axis of `length` pixels.

    Uniform over all crops that overlap the axis, moved back inside. So a pixel is in a crop at least with
    probability size / (length + size - 1), that of a pixel of the border; with offsets uniform inside, the
    border would be seen `size` times less often than the centre.
    """
    last = length - size
    clamped = torch.arange(1 - size, length).clamp(0, last)
    return clamped.bincount(minlength=last + 1) / len(clamped)


def occupied_pixels(
    images: Float[Tensor, "b h w 3"], cameras: Cameras, vertices: Float[Tensor, "v 3"], static: bool = False
) -> Bool[Tensor, "b h w"]:
    """Where a view is lit or a vertex of the mesh lies, seen or hidden: the mesh covers such a pixel, on black.

    Other pixels of the mesh need not be known. They lie in crops that hold one of its vertices, as long as
    its triangles are smaller than crops, and a pixel's weight is that of the crops that are drawn.
    `static` is that of `crops_at`.
    """
    occupied = images.amax(dim=3) > BLACK
    x, y, depth = cameras.project(vertices.detach()).unbind(dim=2)
    inside = (x >= 0) & (x < cameras.width) & (y >= 0) & (y < cameras.height) & (depth > 0)
    if static:
        # Vertices beside the pictures go to a place behind the last pixel.
        view = torch.arange(len(occupied), device=inside.device)[:, None]
        pixel = (view * cameras.height + y.long()) * cameras.width + x.long()
        pixel = torch.where(inside, pixel, occupied.numel()).flatten()
        flat = torch.cat([occupied.flatten(), occupied.new_zeros(1)])
        return flat.index_fill(0, pixel, True)[:-1].view(occupied.shape)
    view = inside.nonzero()[:, 0]
    occupied[view, y[inside].long(), x[inside].long()] = True
    return occupied


def cropped(batch: Batch, size: int, crops: Crops) -> Batch:
    """The crops of a batch of whole views, with their weights."""
    offsets = crops.offsets.to(batch.images.device)
    planes = {
        name: slices(plane, offsets, size)
        for name in ("images", "masks", "pseudo_masks", "foreground", "backgrounds")
        if (plane := getattr(batch, name)) is not None
    }
    cameras = batch.cameras.cropped(offsets, size, size)
    weights = crops.weights.to(batch.images.device)
    if batch.weights is not None:
        weights = weights * slices(batch.weights, offsets, size)
    return batch._replace(cameras=cameras, weights=weights, **planes)


def slices(images: Tensor, offsets: Int[Tensor, "b 2"], size: int) -> Tensor:
    """The crops of (b, h, w, ...) images, (b, size, size, ...)."""
    steps = torch.arange(size, device=offsets.device)
    rows = (offsets[:, :1] + steps)[:, :, None]
    columns = (offsets[:, 1:] + steps)[:, None, :]
    view = torch.arange(len(offsets), device=offsets.device)[:, None, None]
    return images[view, rows, columns]


def _probabilities(occupied: Bool[Tensor, "b h w"], size: int) -> tuple[Float[Tensor, "_ r c"], Float[Tensor, "_ h w"]]:
    """Those of offsets, and of pixels to lie in a crop: one table for all views, where no crop is empty."""
    if not occupied.all() and not (probability := offset_probability(occupied, size)).all():
        return probability, inclusion_probability(probability, size)
    return anywhere(*occupied.shape[1:], size, occupied.device)


def _static_probabilities(
    occupied: Bool[Tensor, "b h w"], size: int
) -> tuple[Float[Tensor, "b r c"], Float[Tensor, "b h w"]]:
    """As `_probabilities`, with a table for each view."""
    probability = offset_probability(occupied, size)
    own = probability, inclusion_probability(probability, size)
    none_empty = occupied.all() | probability.all()
    tables = anywhere(*occupied.shape[1:], size, occupied.device)
    offsets, inclusion = (torch.where(none_empty, *pair) for pair in zip(tables, own, strict=True))
    return offsets, inclusion


@functools.lru_cache(maxsize=8)
def _uniform(height: int, width: int, size: int, device: torch.device) -> Float[Tensor, "r c"]:
    return torch.outer(offset_distribution(height, size), offset_distribution(width, size)).to(device)


def _box_sum(values: Shaped[Tensor, "b h w"], size: int) -> Shaped[Tensor, "b _ _"]:
    """Sums over all crops of `size` x `size` pixels that lie inside, as differences of running sums."""
    exact = torch.int32 if values.dtype == torch.bool else torch.double
    below = pad(values.cumsum(1, dtype=exact), [0, 0, 1, 0])
    below = pad((below[:, size:] - below[:, :-size]).cumsum(2, dtype=exact), [1, 0])
    return below[:, :, size:] - below[:, :, :-size]
