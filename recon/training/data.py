"""The training images as tensors, and the random choices of what an iteration sees of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recon.camera import Cameras
from recon.views import Views


class Batch(NamedTuple):
    """What one iteration compares with: some views, whole or a crop of each.

    `views` tells which they are. The mean of weights * error stands for the mean error of whole views;
    None: all ones. Pixels that no photograph shows have weight 0. With a radiance field there are pseudo-masks and
    foreground (`recon.background.pseudo_masks`) too, and where they are known, the views without the object. While
    poses are learned, `corrections` are those that the cameras have, with gradient.
    """

    cameras: Cameras
    images: Float[Tensor, "b h w 3"]
    masks: Float[Tensor, "b h w"] | None
    views: Int[Tensor, " b"]
    weights: Float[Tensor, "b h w"] | None = None
    pseudo_masks: Float[Tensor, "b h w 2"] | None = None
    foreground: Bool[Tensor, "b h w"] | None = None
    backgrounds: Float[Tensor, "b h w 3"] | None = None
    corrections: Float[Tensor, "b 4 4"] | None = None


@dataclass(frozen=True, eq=False)
class TrainingData:
    """All views of a set on the training device."""

    cameras: Cameras
    images: Float[Tensor, "n h w 3"]
    masks: Float[Tensor, "n h w"] | None
    backgrounds: Float[Tensor, "n h w 3"] | None = None
    known: Float[Tensor, "n h w"] | None = None

    @classmethod
    def from_views(cls, views: Views, device: torch.device) -> "TrainingData":
        """The arrays of `views` on `device`; masks as 0 to 1."""
        masks = None if views.masks is None else torch.from_numpy(views.masks).to(device).float() / 255
        images = torch.from_numpy(views.images).to(device)
        backgrounds = None if views.backgrounds is None else torch.from_numpy(views.backgrounds).to(device)
        known = None if views.known is None else torch.from_numpy(views.known).to(device).float() / 255
        return cls(Cameras.from_views(views).to(device), images, masks, backgrounds, known)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Int[Tensor, " b"]) -> Batch:
        """Whole views."""
        masks = None if self.masks is None else self.masks[index]
        backgrounds = None if self.backgrounds is None else self.backgrounds[index]
        weights = None if self.known is None else self.known[index]
        return Batch(self.cameras[index], self.images[index], masks, index, weights, backgrounds=backgrounds)


class Shuffled:
    """Endless batches of `size` indices below `count`, each used once before any comes again.

    Attributes:
        queue: indices that were drawn and wait for their turn.
    """

    def __init__(self, count: int, size: int, generator: torch.Generator) -> None:
        self.queue = torch.empty(0, dtype=torch.long)
        self._count, self._size, self._generator = count, size, generator

    def __iter__(self) -> Iterator[Int[Tensor, " b"]]:
        return self

    def __next__(self) -> Int[Tensor, " b"]:
        while len(self.queue) < self._size:
            self.queue = torch.cat([self.queue, torch.randperm(self._count, generator=self._generator)])
        batch, self.queue = self.queue[: self._size], self.queue[self._size :]
        return batch


def random_rotation(generator: torch.Generator) -> Float[Tensor, "3 3"]:
    """A rotation drawn uniformly from SO(3): a normalised Gaussian quaternion."""
    w, x, y, z = torch.nn.functional.normalize(torch.randn(4, generator=generator), dim=0).tolist()
    return torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
