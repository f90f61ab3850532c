"""A trial of compiled loops on a device, before a training relies on them."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from recon.camera import Cameras
from recon.render.renderer import diffuse, torch_pixels

TOLERANCE = 1e-3
"""Relative difference that is no error: a sample on an edge may go to either face."""

SIDE = 32
"""Of the two pictures, in pixels."""

SAMPLES, MARGIN = 2, 1
"""Along the side of a pixel, and around the pictures."""


@torch.enable_grad()  # the first picture that asks may need none
def check(device: torch.device, compiled: Callable[..., Any]) -> None:
    """Render a small mesh, forward and backward, with `compiled` and in torch.

    Raises:
        RuntimeError: they differ. What else a compiler raises where it cannot compile or launch is left as it is.
    """
    flash = small_cameras(device)
    beside = torch.cat([flash.centers + 0.5, torch.ones(2, 1, device=device)], dim=1)
    names = ("pictures", "depths and normals", "gradient of the shape", "gradient of the colours", "gradient of lights")
    for cameras in (flash, replace(flash, lights=beside)):
        results = [_rendered(render, cameras, device) for render in (torch_pixels, compiled)]
        for name, expected, found in zip(names, *results, strict=False):  # a flash has no gradient
            if not (found - expected).norm() <= TOLERANCE * expected.norm():
                raise RuntimeError(f"the {name} of a small mesh are not those of torch")


def _rendered(render: Callable[..., Any], cameras: Cameras, device: torch.device) -> list[Tensor]:
    vertices, faces = small_mesh(device)
    albedo = torch.linspace(0.2, 1, vertices.numel(), device=device).view(-1, 3)
    leaves = [vertices.requires_grad_(), albedo.requires_grad_()]
    if cameras.lights is not None:
        leaves.append(cameras.lights[:, :3].clone().requires_grad_())
        cameras = replace(cameras, lights=torch.cat([leaves[2], cameras.lights[:, 3:]], dim=1))
    fine = cameras.scaled(SAMPLES).padded(MARGIN)
    image, details = render(vertices, faces, fine, albedo, diffuse, SAMPLES, MARGIN, antialias=True, cull=True)
    # No derivative of a sum of squares is the same for all pixels.
    return [image.detach(), details, *torch.autograd.grad(image.square().sum(), leaves)]


def small_mesh(device: torch.device) -> tuple[Tensor, Tensor]:
    """A closed surface about the z axis, with silhouettes before itself."""
    rings, sectors = 12, 16
    polar = torch.linspace(0, math.pi, rings + 2)[1:-1, None]
    around = torch.arange(sectors) * (2 * math.pi / sectors)
    radius = 0.6 + 0.2 * (3 * around).sin() * (4 * polar).sin()
    grid = [radius * polar.sin() * around.cos(), radius * polar.sin() * around.sin(), radius * polar.cos()]
    poles = torch.tensor([[0, 0, 0.6], [0, 0, -0.6]])
    vertices = torch.cat([torch.stack(grid, dim=-1).flatten(0, 1), poles])
    row, column = torch.arange(rings - 1)[:, None] * sectors, torch.arange(sectors)
    after = (column + 1) % sectors
    a, b, c, d = ((row + each).flatten() for each in (column, after, sectors + column, sectors + after))
    first, last = column, (rings - 1) * sectors + column
    north, south = torch.full_like(first, rings * sectors), torch.full_like(first, rings * sectors + 1)
    parts = [(a, c, b), (b, c, d), (first, after, north), (last, south, (rings - 1) * sectors + after)]
    faces = torch.cat([torch.stack(part, dim=1) for part in parts])
    return vertices.to(device), faces.to(device)


def small_cameras(device: torch.device) -> Cameras:
    """One that looks along -x from (2, 0, 0) and one that looks along -y."""
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[0, :3] = torch.tensor([[0, 0, -1, 2], [1, 0, 0, 0], [0, -1, 0, 0.0]])
    poses[1, :3] = torch.tensor([[-1, 0, 0, 0], [0, 0, -1, 2], [0, -1, 0, 0.0]])
    intrinsics = torch.tensor([[SIDE * 1.3, 0, SIDE / 2], [0, SIDE * 1.3, SIDE / 2], [0, 0, 1]])
    return Cameras(poses, intrinsics.repeat(2, 1, 1), SIDE, SIDE).to(device)
