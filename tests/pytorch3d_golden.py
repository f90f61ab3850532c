"""What PyTorch3D returns for one small mesh and three cameras: tests/data/pytorch3d_0.7.9.npz.

    .venv/pytorch3d/bin/python tests/pytorch3d_golden.py

makes the file anew, from its own mesh and cameras.
"""

from pathlib import Path

import numpy as np
import torch

from recon.camera import Cameras
from recon.render import pytorch3d

PATH = Path(__file__).parent / "data" / "pytorch3d_0.7.9.npz"
HEIGHT, WIDTH = 48, 64
FACES_PER_PIXEL = 50
"""Of the soft alpha."""

GIVEN = ("vertices", "faces", *(f"{name}_{i}" for i in range(3) for name in ("camera_to_world", "intrinsics")))
"""Arrays that the others are made from."""


def golden() -> dict[str, np.ndarray]:
    """The arrays of the file."""
    with np.load(PATH) as stored:
        return dict(stored)


def golden_camera(i: int) -> Cameras:
    stored = golden()
    pose, intrinsics = stored[f"camera_to_world_{i}"], stored[f"intrinsics_{i}"]
    return Cameras(torch.tensor(pose[None]).float(), torch.tensor(intrinsics[None]).float(), HEIGHT, WIDTH)


def made(i: int) -> dict[str, np.ndarray]:
    """The arrays of camera `i`, made by the PyTorch3D that is installed.

    Fragments of hard edges, with barycentric coordinates corrected for perspective; alpha of soft edges (sigma 1e-4),
    and the gradient of its sum with weights from -1 to 1, which no symmetry cancels.
    """
    stored, camera = golden(), golden_camera(i)
    vertices, faces = torch.tensor(stored["vertices"], requires_grad=True), torch.tensor(stored["faces"])
    hard = pytorch3d.rasterize(vertices, faces, camera, 0.0, 1)
    reach = pytorch3d.REACH * pytorch3d.SIGMA
    alpha = pytorch3d.soft_alpha(pytorch3d.rasterize(vertices, faces, camera, reach, FACES_PER_PIXEL))
    (gradient,) = torch.autograd.grad((alpha.flatten() * torch.linspace(-1, 1, HEIGHT * WIDTH)).sum(), vertices)
    found = {
        "pix_to_face": hard.pix_to_face[0, ..., 0],
        "zbuf": hard.zbuf[0, ..., 0],
        "bary": hard.bary_coords[0, ..., 0, :],
        "soft_alpha": alpha[0],
        "soft_alpha_grad": gradient,
    }
    return {f"{name}_{i}": array.detach().numpy() for name, array in found.items()}


if __name__ == "__main__":
    given = {name: golden()[name] for name in GIVEN}
    np.savez_compressed(PATH, **given, **{name: array for i in range(3) for name, array in made(i).items()})
