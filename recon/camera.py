"""Pinhole cameras, batched, in torch.

Frames: the world is the frame of the mesh. A camera's own frame has OpenCV's axes (x right, y down, z forward along
the optical axis), its origin at the camera's centre and the world's unit of length. The image has x right and y down,
in pixels, and the centre of its first pixel at (0.5, 0.5).
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon.views import Views


@dataclass(frozen=True, eq=False)
class Cameras:
    """`n` pinhole cameras that share one image size, each with the light of its image.

    Attributes:
        camera_to_world: rigid poses, from the camera's frame (OpenCV axes) to the world.
        intrinsics: upper triangular matrices K, focal lengths and principal point in pixels.
        height, width: image size in pixels.
        lights: homogeneous, in the world: (x, y, z, 1) is a point light there, (x, y, z, 0) a distant
            light in that direction, a unit vector. None: each camera's flash, at its centre.
    """

    camera_to_world: Float[Tensor, "n 4 4"]
    intrinsics: Float[Tensor, "n 3 3"]
    height: int
    width: int
    lights: Float[Tensor, "n 4"] | None = None

    @classmethod
    def from_views(cls, views: Views, dtype: torch.dtype = torch.float32) -> "Cameras":
        """The cameras of a viewpoint set, on the CPU, with its lights where it has any."""
        lights = homogeneous_lights(views)
        return cls(
            torch.as_tensor(views.camera_to_world, dtype=dtype),
            torch.as_tensor(views.intrinsics, dtype=dtype),
            views.height,
            views.width,
            None if lights is None else torch.as_tensor(lights, dtype=dtype),
        )

    def __len__(self) -> int:
        return len(self.camera_to_world)

    def __getitem__(self, index: slice | list[int] | Int[Tensor, " k"]) -> "Cameras":
        """The cameras at these places of the batch; a single number is no index, as there is no single camera."""
        return replace(
            self,
            camera_to_world=self.camera_to_world[index],
            intrinsics=self.intrinsics[index],
            lights=None if self.lights is None else self.lights[index],
        )

    def to(self, target: torch.device | torch.dtype | str) -> "Cameras":
        """The same cameras, poses, intrinsics and lights moved to a device or converted to a dtype."""
        return replace(
            self,
            camera_to_world=self.camera_to_world.to(target),
            intrinsics=self.intrinsics.to(target),
            lights=None if self.lights is None else self.lights.to(target),
        )

    @property
    def centers(self) -> Float[Tensor, "n 3"]:
        """Camera centres in the world, where the flashes are too."""
        return self.camera_to_world[:, :3, 3]

    @property
    def world_to_image(self) -> Float[Tensor, "n 3 3"]:
        """K R^T: from offsets from the camera's centre, in world axes, to homogeneous pixel coordinates, whose third
        is the depth. R turns the camera's axes into the world's."""
        return self.intrinsics @ self.camera_to_world[:, :3, :3].mT

    def scaled(self, factor: int) -> "Cameras":
        """The same cameras with `factor` times as many pixels along each axis, over the same field of view."""
        intrinsics = self.intrinsics.clone()
        intrinsics[:, :2] *= factor
        return replace(self, intrinsics=intrinsics, height=self.height * factor, width=self.width * factor)

    def cropped(self, offsets: Int[Tensor, "n 2"], height: int, width: int) -> "Cameras":
        """Windows of the images, one of each camera.

        Only the principal point moves. So a window's picture equals the slice
        `[row : row + height, column : column + width]` of the whole one, and the light stays where it is.

        Args:
            offsets: (row, column) of each window's first pixel in the whole image. It may lie outside.
            height, width: of every window, in pixels.
        """
        intrinsics = self.intrinsics.clone()
        intrinsics[:, :2, 2] -= offsets.flip(1).to(intrinsics)
        return replace(self, intrinsics=intrinsics, height=height, width=width)

    def padded(self, margin: int) -> "Cameras":
        """The same cameras with `margin` more pixels on each of the four sides: the inner pixels stay as they are."""
        intrinsics = self.intrinsics.clone()
        intrinsics[:, :2, 2] += margin
        return replace(self, intrinsics=intrinsics, height=self.height + 2 * margin, width=self.width + 2 * margin)

    def project(self, points: Float[Tensor, "v 3"]) -> Float[Tensor, "n v 3"]:
        """Project points of the world into every camera.

        Returns:
            (x, y, depth): pixel coordinates, and the depth along the optical axis in units of the world. The depth is
            not positive for points beside or behind the camera; x and y mean nothing there.
        """
        # A batched product has one result whatever else is in the batch; a single product of all cameras' rows would
        # be blocked, and so rounded, by the number of cameras. The principal point comes last: it alone differs
        # between a window and the whole image, so that both round everything before it alike.
        world_to_camera = self.camera_to_world[:, :3, :3].mT
        offset = world_to_camera @ self.centers[:, :, None]
        local = torch.baddbmm(offset, world_to_camera, points.mT.expand(len(self), -1, -1), beta=-1)
        depth = local[:, 2]
        on_plane = local[:, :2] / depth[:, None]
        x, y = torch.baddbmm(self.intrinsics[:, :2, 2:], self.intrinsics[:, :2, :2], on_plane).unbind(dim=1)
        # In memory coordinate by coordinate, as the rasteriser gathers them.
        return torch.stack([x, y, depth]).permute(1, 2, 0)


def homogeneous_lights(views: Views) -> Float[np.ndarray, "n 4"] | None:
    """The lights of a viewpoint set as `Cameras.lights` has them, in double precision; None for flashes at the
    cameras' centres."""
    if views.light_position is not None:
        return np.pad(views.light_position, ((0, 0), (0, 1)), constant_values=1.0)
    if views.light_direction is not None:
        return np.pad(views.light_direction, ((0, 0), (0, 1)))
    return None


def look_at(
    eye: Float[np.ndarray, "n 3"], target: Float[np.ndarray, " 3"], up: Float[np.ndarray, " 3"]
) -> Float[np.ndarray, "n 4 4"]:
    """Poses of cameras that look at a point.

    Args:
        eye: the cameras' centres in the world; none may be at `target`.
        target: the point of the world that all of them see on the optical axis.
        up: direction in the world to which the top of the pictures points, of any length, not along a line of sight.

    Returns:
        Camera-to-world matrices, for a camera's frame with OpenCV's axes.
    """
    forward = target - eye
    forward = forward / np.linalg.norm(forward, axis=1, keepdims=True)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    down = np.cross(forward, right)
    poses = np.tile(np.eye(4), (len(eye), 1, 1))
    poses[:, :3, :3] = np.stack([right, down, forward], axis=2)
    poses[:, :3, 3] = eye
    return poses


def intrinsics_from_fov(fov_degrees: float, height: int, width: int) -> Float[np.ndarray, "3 3"]:
    """Intrinsics of a camera with square pixels and the principal point at the image's centre.

    Args:
        fov_degrees: horizontal field of view, from the left edge of the image to the right one.
        height, width: of the image, in pixels.

    Returns:
        The matrix K, in pixels.
    """
    focal = 0.5 * width / np.tan(0.5 * np.radians(fov_degrees))
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
