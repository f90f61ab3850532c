"""Where the cameras of a film stand: around the object, where photographs were taken, or along a curve through them."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation, RotationSpline

from recon.camera import Cameras, intrinsics_from_fov
from recon.capture.keyframes import read_keyframes
from recon.capture.poses import poses_in_unit_frame
from recon.errors import ReconError
from recon.evaluation.turntable import DISTANCE, FIELD_OF_VIEW, cameras_around
from recon.files import read_npz
from recon.geometry.winding import inside
from recon.model.model import Model, SurfaceMesh
from recon.views import load_views

TURNTABLE = "turntable"
"""The name of the path around the object."""

FRAMES = 72
"""Of a turntable: every five degrees."""

SIZE = 512, 512
"""Width and height of a turntable's frames, in pixels."""


class Stands(NamedTuple):
    """Cameras as a file has them, in the unit frame; `size` is width and height in pixels."""

    camera_to_world: Float[np.ndarray, "n 4 4"]
    intrinsics: Float[np.ndarray, "n 3 3"]
    size: tuple[int, int]


def cameras_along(
    path: str | Path, model: Model, mesh: SurfaceMesh, size: tuple[int, int] | None, frames: int | None
) -> Cameras:
    """The cameras of a path, in the unit frame.

    Args:
        path: `TURNTABLE`, or a viewpoint set or keyframes (npz), which are in the source's frame.
        size: width and height in pixels; None: those of the file, or `SIZE`.
        frames: of a turntable, by default `FRAMES`; of a file as many along a smooth curve through its cameras, by
            default each of them once.

    Raises:
        ReconError: the file is none of both, or is damaged; a camera stands in the object or touches it.
    """
    name = TURNTABLE if path == TURNTABLE else str(path)
    if isinstance(path, str):
        poses, matrices, (width, height) = _around(model, mesh, size or SIZE, frames or FRAMES)
    else:
        stands = _read(path, model)
        if frames is not None:
            stands = curve(stands, frames)
        poses, matrices, (width, height) = stands if size is None else resized(stands, size)
    check_outside(poses[:, :3, 3], mesh, lambda i: f"--path {name}: the camera of frame {i}")
    return Cameras(torch.from_numpy(poses).float(), torch.from_numpy(matrices).float(), height, width)


def check_outside(points: Float[np.ndarray, "n 3"], mesh: SurfaceMesh, name: Callable[[int], str]) -> None:
    """Raise `ReconError`, with the name of the point, where one is inside the mesh or so near that it touches it: by
    less than the mesh's longest edge, which is as exact as its triangles are."""
    vertices, faces = mesh.vertices.cpu().double().numpy(), mesh.faces.cpu().numpy()
    within = inside(points, vertices, faces)
    if within.any():
        raise ReconError(f"{name(int(within.argmax()))} is inside the object")
    longest = max(
        np.linalg.norm(vertices[faces[:, i]] - vertices[faces[:, j]], axis=1).max() for i, j in ((0, 1), (1, 2), (2, 0))
    )
    distance, _ = cKDTree(vertices).query(points)
    if (distance < longest).any():
        raise ReconError(f"{name(int((distance < longest).argmax()))} touches the object")


def turntable_distance(mesh: SurfaceMesh) -> float:
    """How far the turntable's camera is from the middle of the object, in the unit frame."""
    return DISTANCE * _ball(mesh)[1]


def resized(stands: Stands, size: tuple[int, int]) -> Stands:
    """The same cameras with other pictures, which show all that the former show, and more along the side that has
    become relatively longer."""
    factor = min(new / old for new, old in zip(size, stands.size, strict=True))
    intrinsics = stands.intrinsics.copy()
    intrinsics[:, :2] *= factor
    intrinsics[:, :2, 2] += (np.array(size) - factor * np.array(stands.size)) / 2
    return Stands(stands.camera_to_world, intrinsics, size)


def curve(stands: Stands, frames: int) -> Stands:
    """As many cameras along a curve through those of a file, from the first to the last, evenly in their number:
    cubic splines of the centres and the intrinsics, and of the rotations (scipy's `RotationSpline`)."""
    count = len(stands.camera_to_world)
    if count < 2:
        once = np.zeros(frames, int)
        return Stands(stands.camera_to_world[once], stands.intrinsics[once], stands.size)
    knots, places = np.arange(count), np.linspace(0, count - 1, frames)
    poses = CubicSpline(knots, stands.camera_to_world)(places)
    poses[:, :3, :3] = RotationSpline(knots, Rotation.from_matrix(stands.camera_to_world[:, :3, :3]))(
        places
    ).as_matrix()
    return Stands(poses, CubicSpline(knots, stands.intrinsics)(places), stands.size)


def _around(model: Model, mesh: SurfaceMesh, size: tuple[int, int], frames: int) -> Stands:
    """Around the middle of the object, at a distance that goes with its size."""
    width, height = size
    around = cameras_around(model, 2 * np.pi * np.arange(frames) / frames, min(size))
    middle, radius = _ball(mesh)
    poses = around.camera_to_world.double().numpy()
    poses[:, :3, 3] = middle + radius * poses[:, :3, 3]
    square = np.tile(intrinsics_from_fov(FIELD_OF_VIEW, min(size), min(size)), (frames, 1, 1))
    return resized(Stands(poses, square, (min(size), min(size))), (width, height))


def _read(path: Path, model: Model) -> Stands:
    """The cameras of a viewpoint set or of keyframes: what the file is, its keys tell."""
    if "images" in read_npz(path):
        views = load_views(path, empty_masks=True).aligned_to(model)
        return Stands(views.camera_to_world, views.intrinsics, (views.width, views.height))
    keyframes = read_keyframes(path)
    height, width = keyframes.resolution
    poses = poses_in_unit_frame(keyframes.camera_to_world, model.world_from_unit)
    return Stands(poses, np.tile(keyframes.intrinsics, (len(poses), 1, 1)), (width, height))


def _ball(mesh: SurfaceMesh) -> tuple[Float[np.ndarray, " 3"], float]:
    """The middle of the object's bounding box, and the radius of the ball around it that holds the object."""
    vertices = mesh.vertices.double().cpu().numpy()
    middle = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    return middle, float(np.linalg.norm(vertices - middle, axis=1).max())
