"""Cameras and meshes that several tests look at."""

import numpy as np
import torch

from recon.camera import Cameras, intrinsics_from_fov, look_at
from recon.surface.icosphere import icosphere


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
