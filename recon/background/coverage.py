"""Which cells of contracted space the cameras see, and so where a field can be known at all."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recon.background.contraction import RADIUS, expand
from recon.background.rays import NEAR
from recon.camera import Cameras


def cell_centers(size: int, device: torch.device) -> Float[Tensor, "cells 3"]:
    """Contracted centres of size^3 cells, row-major."""
    axis = (torch.arange(size, device=device) + 0.5) * (2 * RADIUS / size) - RADIUS
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=3).view(-1, 3)


def seen_cells(cameras: Cameras, size: int, least: int) -> Bool[Tensor, "k k k"]:
    """Cells whose centre lies in the pictures of at least `least` cameras.

    What a single camera sees could be anything anywhere along its rays: a veil before the lens
    explains a picture as well as the object does.
    """
    centers = cell_centers(size, cameras.camera_to_world.device)
    inside = centers.norm(dim=1) < RADIUS - 1 / size
    points = expand(torch.where(inside[:, None], centers, 0))
    count = sum(_in_picture(cameras[[i]], points) for i in range(len(cameras)))
    return (inside & (count >= least)).view(size, size, size)


def _in_picture(cameras: Cameras, points: Float[Tensor, "s 3"]) -> Int[Tensor, " s"]:
    x, y, depth = cameras.project(points)[0].unbind(1)
    return ((depth > NEAR) & (x >= 0) & (x < cameras.width) & (y >= 0) & (y < cameras.height)).int()
