"""A reconstruction that turns, as a short film: in the light of the camera, and of a lamp beside it."""

from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import torch
from jaxtyping import Float, UInt8

from recon.camera import Cameras, intrinsics_from_fov, look_at
from recon.files import atomic
from recon.images.pictures import tone_map
from recon.model.model import Model, SurfaceMesh
from recon.render.lighting import Lighting, cast
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
LAMP = np.array([1.2, -0.8, 0.0])
"""Where the lamp is beside the camera, to the right and up of it, as a share of the camera's distance, in the axes of
the camera; it is then brought to that distance from the object. Its light comes from 55 degrees aside."""
SHADOW_SIZE = 256
"""Texels along a side of its depth maps."""


def write_turntable(model: Model, mesh: SurfaceMesh, path: Path) -> None:
    """The object alone, lit by the flash of a camera that goes once around it, as an animated GIF.

    Raises:
        ReconError: the file cannot be written.
    """
    _write(turntable(model, mesh, FRAMES, SIZE), path)


def write_relit_turntable(model: Model, mesh: SurfaceMesh, path: Path) -> None:
    """The same, lit by a lamp that goes with the camera beside it, with cast shadows.

    Raises:
        ReconError: the file cannot be written.
    """
    _write(turntable(model, mesh, FRAMES, SIZE, lamp=True), path)


def _write(frames: UInt8[np.ndarray, "n h w 3"], path: Path) -> None:
    with atomic(path) as temporary:
        imageio.imwrite(temporary, frames, plugin="pillow", extension=".gif", duration=MILLISECONDS, loop=0)


@torch.no_grad()
def turntable(
    model: Model, mesh: SurfaceMesh, count: int, size: int, lamp: bool = False
) -> UInt8[np.ndarray, "n h w 3"]:
    """Pictures of `size` x `size` pixels from `count` cameras around the upright axis (z) of the source's frame, lit
    by their flash or by a lamp beside each."""
    angles = 2 * np.pi * np.arange(count) / count
    cameras = cameras_around(model, angles, size).to(model.device)
    frames = [
        render(
            mesh.vertices,
            mesh.faces,
            cameras[[i]],
            albedo=mesh.attributes,
            shader=model.reflectance.shade,
            lighting=_lamp(mesh, cameras[[i]]) if lamp else None,
        ).radiance.cpu()
        for i in range(count)
    ]
    return tone_map(torch.cat(frames).numpy(), "scale")


def _lamp(mesh: SurfaceMesh, camera: Cameras) -> Lighting:
    """As bright as the flash, and as far from the origin as the camera."""
    center, axes = camera.centers[0], camera.camera_to_world[0, :3, :3]
    aside = center / center.norm() + axes @ torch.from_numpy(LAMP).to(center)
    light = torch.cat([aside / aside.norm() * center.norm(), center.new_ones(1)])[None]
    return cast(mesh.vertices, mesh.faces, light, torch.ones_like(light[:, :3]), SHADOW_SIZE, kernel=1)


def cameras_around(model: Model, angles: Float[np.ndarray, " n"], size: int) -> Cameras:
    """Cameras of `size` x `size` pixels around the upright axis that look at the unit sphere, in the unit frame."""
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
