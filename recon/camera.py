"""Pinhole cameras, batched, in torch."""

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
        camera_to_world: rigid poses; OpenCV axes (x right, y down, z forward).
        intrinsics: in pixels; the centre of the first pixel lies at (0.5, 0.5).
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
        return replace(
            self,
            camera_to_world=self.camera_to_world[index],
            intrinsics=self.intrinsics[index],
            lights=None if self.lights is None else self.lights[index],
        )

    def to(self, target: torch.device | torch.dtype | str) -> "Cameras":
        """The same cameras on a device or in a dtype."""
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
        """K R^T, from offsets in the world to homogeneous pixel coordinates."""
        return self.intrinsics @ self.camera_to_world[:, :3, :3].mT

    def scaled(self, factor: int) -> "Cameras":
        """The same cameras with `factor` times as many pixels along each axis."""
        intrinsics = self.intrinsics.clone()
        intrinsics[:, :2] *= factor
        return replace(self, intrinsics=intrinsics, height=self.height * factor, width=self.width * factor)

    def cropped(self, offsets: Int[Tensor, "n 2"], height: int, width: int) -> "Cameras":
        """Windows of `height` x `width` pixels whose first pixel is (row, column) = `offsets[i]`.

        Only the principal point moves, so the window equals the slice of the whole image and the
        light stays where it is.
        """
        intrinsics = self.intrinsics.clone()
        intrinsics[:, :2, 2] -= offsets.flip(1).to(intrinsics)
        return replace(self, intrinsics=intrinsics, height=height, width=width)

    def padded(self, margin: int) -> "Cameras":
        """The same cameras with `margin` more pixels on each of the four sides."""
        intrinsics = self.intrinsics.clone()
        intrinsics[:, :2, 2] += margin
        return replace(self, intrinsics=intrinsics, height=self.height + 2 * margin, width=self.width + 2 * margin)

    def project(self, points: Float[Tensor, "v 3"]) -> Float[Tensor, "n v 3"]:
        """Pixel coordinates (x, y) and depth along the optical axis of world points in every camera."""
        # One product of matrices a camera, so that other cameras do not change the rounding; the principal point
        # last, so that a window's pixels are rounded as those of the whole image.
        world_to_camera = self.camera_to_world[:, :3, :3].mT
        offset = world_to_camera @ self.centers[:, :, None]
        local = torch.baddbmm(offset, world_to_camera, points.mT.expand(len(self), -1, -1), beta=-1)
        depth = local[:, 2]
        on_plane = local[:, :2] / depth[:, None]
        x, y = torch.baddbmm(self.intrinsics[:, :2, 2:], self.intrinsics[:, :2, :2], on_plane).unbind(dim=1)
        # In memory coordinate by coordinate, as the rasteriser gathers them.
        return torch.stack([x, y, depth]).permute(1, 2, 0)


def homogeneous_lights(views: Views) -> Float[np.ndarray, "n 4"] | None:
    """The lights of a viewpoint set as `Cameras` has them."""
    if views.light_position is not None:
        return np.pad(views.light_position, ((0, 0), (0, 1)), constant_values=1.0)
    if views.light_direction is not None:
        return np.pad(views.light_direction, ((0, 0), (0, 1)))
    return None


def look_at(
    eye: Float[np.ndarray, "n 3"], target: Float[np.ndarray, " 3"], up: Float[np.ndarray, " 3"]
) -> Float[np.ndarray, "n 4 4"]:
    """Camera-to-world poses (OpenCV axes) at `eye`, looking at `target`, image top towards `up`."""
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
    """Pinhole matrix for a horizontal field of view, principal point at the image's centre."""
    focal = 0.5 * width / np.tan(0.5 * np.radians(fov_degrees))
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
