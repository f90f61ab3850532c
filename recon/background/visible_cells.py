"""Which cells of contracted space the cameras see, and so where a field can be known at all."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from recon.background.contraction import RADIUS, expand
from recon.background.rays import NEAR, rays_through
from recon.camera import Cameras
from recon.images.black import BLACK

FEWEST_PIXELS = 1e-3
"""Share of the pixels beside the unit sphere that may be brighter before black."""


def black_beside_sphere(cameras: Cameras, images: Float[Tensor, "n h w 3"]) -> bool:
    """Whether all that is lit lies in the unit sphere's outline, so that there is nothing to see but the object."""
    pixels = torch.arange(cameras.height * cameras.width, device=images.device)
    enough = FEWEST_PIXELS * len(cameras) * len(pixels)
    lit = beside = 0
    for i in range(len(cameras)):  # one by one bounds the memory
        rays = rays_through(cameras[[i]], pixels)
        misses = rays.leave <= rays.enter
        beside += int(misses.sum())
        lit += int((images[i].amax(dim=2).flatten()[misses] > BLACK).sum())
        if lit > enough:  # whatever the others show
            return False
    return beside > 0 and lit <= FEWEST_PIXELS * beside


def cell_centers(size: int, device: torch.device) -> Float[Tensor, "cells 3"]:
    """Contracted centres of size^3 cells, row-major."""
    axis = (torch.arange(size, device=device) + 0.5) * (2 * RADIUS / size) - RADIUS
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=3).view(-1, 3)


def visible_cells(cameras: Cameras, size: int, least: int) -> Bool[Tensor, "k k k"]:
    """Cells whose centre lies in the pictures of at least `least` cameras, or in pictures but nowhere
    before the object.

    What a single camera sees could be anything anywhere along its rays: a veil before the lens
    explains a picture as well as the object does. Behind the object it can do no harm.
    """
    centers = cell_centers(size, cameras.camera_to_world.device)
    inside = centers.norm(dim=1) < RADIUS - 1 / size
    points = expand(torch.where(inside[:, None], centers, 0))
    count = torch.zeros(len(points), dtype=torch.int, device=points.device)
    before = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    for i in range(len(cameras)):
        shown = _in_picture(cameras[[i]], points)
        count += shown
        before |= shown & _before_origin(cameras.centers[i], points)
    known = (count >= least) | ((count > 0) & ~before)
    return (inside & known).view(size, size, size)


def _in_picture(cameras: Cameras, points: Float[Tensor, "s 3"]) -> Bool[Tensor, " s"]:
    x, y, depth = cameras.project(points)[0].unbind(1)
    return (depth > NEAR) & (x >= 0) & (x < cameras.width) & (y >= 0) & (y < cameras.height)


def _before_origin(center: Float[Tensor, " 3"], points: Float[Tensor, "s 3"]) -> Bool[Tensor, " s"]:
    """Whether points lie on the camera's side of the plane through the origin that faces it."""
    return points @ center > 0
