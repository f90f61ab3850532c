"""Cameras and meshes that several tests look at."""

import numpy as np
import torch

from recon.camera import Cameras, intrinsics_from_fov, look_at
from recon.render.renderer import render
from recon.surface.icosphere import icosphere
from recon.views import Views


def ring(count: int, height: int, width: int, radius: float = 2.5) -> Cameras:
    """Cameras around the z axis that look at the origin, with an off-centre principal point."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    eyes = radius * np.stack([np.cos(angles), np.sin(angles), 0.3 + 0 * angles], axis=1)
    intrinsics = np.tile(intrinsics_from_fov(49.0, height, width), (count, 1, 1))
    intrinsics[:, 0, 2] += 3.7
    poses = look_at(eyes, np.zeros(3), np.array([0, 0, 1.0]))
    return Cameras(torch.tensor(poses).float(), torch.tensor(intrinsics).float(), height, width)


def bumpy(level: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A closed surface with silhouettes inside its outline."""
    sphere = icosphere(level)
    x, y, z = sphere.vertices.T
    radius = 0.6 + 0.15 * torch.sin(5 * x) * torch.sin(4 * y + 1) * torch.cos(6 * z)
    return sphere.vertices * radius[:, None], sphere.faces


def sphere_views(count: int = 6, size: int = 32) -> Views:
    """Photographs of a white ball of radius 0.6 with black behind it."""
    cameras = ring(count, size, size)
    vertices, faces = icosphere(4)
    image = render(0.6 * vertices, faces, cameras, albedo=torch.ones_like(vertices), samples=2)
    peak = image.radiance.max()
    return Views(
        images=(image.radiance / peak).numpy(),
        masks=((image.alpha >= 0.5) * 255).to(torch.uint8).numpy(),
        camera_to_world=_rigid(cameras.camera_to_world.double().numpy()),
        intrinsics=cameras.intrinsics.double().numpy(),
        radiance_scale=peak.item(),
    )


def _rigid(poses: np.ndarray) -> np.ndarray:
    poses[:, 3] = [0, 0, 0, 1]
    return poses
