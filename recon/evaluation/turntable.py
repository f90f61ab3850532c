"""A reconstruction that turns, as a short film."""

from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import torch
from jaxtyping import Float, UInt8

from recon.camera import Cameras, intrinsics_from_fov, look_at
from recon.files import atomic
from recon.images.pictures import tone_map
from recon.model.model import Model, SurfaceMesh
from recon.render.renderer import render

FRAMES = 30
SIZE = 240
"""Pixels of a side."""
DISTANCE = 2.7
ELEVATION = 15.0
"""Degrees above the horizon."""
FIELD_OF_VIEW = 44.0
MILLISECONDS = 100
"""That a frame is shown."""


def write_turntable(model: Model, mesh: SurfaceMesh, path: Path) -> None:
    """The object alone, lit by the flash of a camera that goes once around it, as an animated GIF.

    Raises:
        ReconError: the file cannot be written.
    """
    frames = turntable(model, mesh, FRAMES, SIZE)
    with atomic(path) as temporary:
        imageio.imwrite(temporary, frames, plugin="pillow", extension=".gif", duration=MILLISECONDS, loop=0)


@torch.no_grad()
def turntable(model: Model, mesh: SurfaceMesh, count: int, size: int) -> UInt8[np.ndarray, "n h w 3"]:
    """Pictures of `size` x `size` pixels from `count` cameras around the upright axis (z) of the source's frame."""
    angles = 2 * np.pi * np.arange(count) / count
    cameras = cameras_around(model, angles, size).to(model.device)
    frames = [
        render(
            mesh.vertices,
            mesh.faces,
            cameras[[i]],
            albedo=mesh.attributes,
            shader=model.reflectance.shade,
        ).radiance.cpu()
        for i in range(count)
    ]
    return tone_map(torch.cat(frames).numpy(), "scale")


def cameras_around(model: Model, angles: Float[np.ndarray, " n"], size: int) -> Cameras:
    """Cameras of `size` x `size` pixels that look at the unit sphere from around its upright axis, in the unit frame."""
    upright = np.linalg.inv(model.world_from_unit[:3, :3]) @ [0.0, 0.0, 1.0]
    upright /= np.linalg.norm(upright)
    side = np.cross(upright, [1.0, 0, 0] if abs(upright[0]) < 0.9 else [0, 1.0, 0])
    side /= np.linalg.norm(side)
    around = angles[:, None]
    level = np.cos(around) * side + np.sin(around) * np.cross(upright, side)
    slope = np.radians(ELEVATION)
    eyes = DISTANCE * (np.cos(slope) * level + np.sin(slope) * upright)
    poses = look_at(eyes, np.zeros(3), upright)
    intrinsics = np.tile(intrinsics_from_fov(FIELD_OF_VIEW, size, size), (len(angles), 1, 1))
    return Cameras(torch.from_numpy(poses).float(), torch.from_numpy(intrinsics).float(), size, size)
