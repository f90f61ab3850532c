"""Which points of a surface the cameras of a viewpoint set see."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import grid_sample, max_pool2d

from recon.camera import Cameras
from recon.render.normals import vertex_normals

SLACK = 0.05
"""Depth, in the unit frame, by which a point may lie behind what its pixel shows."""


@torch.no_grad()
def times_seen(
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    cameras: Cameras,
    depth: Float[Tensor, "n h w"],
) -> Int[Tensor, " v"]:
    """How many of the cameras see each vertex: turned to them, inside the image, and not behind `depth`.

    `depth` is that of a rendering of the same surface in the same cameras.
    """
    screen = cameras.project(vertices)
    turned = _turned_to(vertices, faces, cameras)
    scale = screen.new_tensor([2 / cameras.width, 2 / cameras.height])
    grid = (screen[..., :2] * scale - 1)[:, None]
    # The farthest of a pixel and its neighbours: within one pixel a slanted surface covers many depths.
    farthest = max_pool2d(depth[:, None], kernel_size=3, stride=1, padding=1)
    shown = grid_sample(farthest, grid, mode="nearest", align_corners=False)[:, 0, 0]
    inside = (grid[:, 0].abs() <= 1).all(dim=-1) & (screen[..., 2] > 0)
    return (turned & inside & (screen[..., 2] <= shown + SLACK)).sum(dim=0)


def _turned_to(vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], cameras: Cameras) -> Bool[Tensor, "n v"]:
    normals = vertex_normals(vertices, faces)
    return ((cameras.centers[:, None] - vertices) * normals).sum(dim=-1) > 0
