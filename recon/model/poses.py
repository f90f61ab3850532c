"""Small corrections of the training views' poses, learned with the surface.

    camera_to_world of a view = exp(twist of the view) * camera_to_world as it was given

Seen from such a camera, the surface looks as it does from the given one when it is moved by exp(-twist): so the
gradient of a twist comes through the vertices, and rasterisation needs none for cameras.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from recon.camera import Cameras
from recon.config import CamerasConfig
from recon.frames import frame_scale, moved_poses

SAME = 1e-5
"""Largest difference of two poses' entries, in the unit frame, up to which they are one view's."""


class Poses(nn.Module):
    """A twist for each training view, or None where poses are taken as they are.

    All views together may turn and shift with the object without changing a picture; so only differences from the
    mean of the twists count. No view is kept fixed, for the whole object would take over that one's error.

    Attributes:
        twists: rotation vector (radians) and translation about the origin of the unit frame, of each view.
        given: the poses that were corrected.
    """

    def __init__(self, config: CamerasConfig, views: int = 0) -> None:
        super().__init__()
        self.twists = nn.Parameter(torch.zeros(views, 6)) if config.refine else None
        self.given = nn.Buffer(torch.zeros(views, 4, 4)) if config.refine else None

    def adapt(self, cameras: Cameras) -> None:
        """Take the training views' poses as given."""
        if self.given is not None:
            self.given.copy_(cameras.camera_to_world)

    def corrections(self) -> Float[Tensor, "n 4 4"]:
        """exp(twist) of every training view, with gradient."""
        assert self.twists is not None
        return rigid(self.twists - self.twists.mean(0))

    @torch.no_grad()
    def corrected(self, cameras: Cameras, views: Int[Tensor, " n"] | None = None) -> Cameras:
        """The same cameras, those of training views with their corrected poses.

        `views` tells which they are; None: a training view is known by its given pose, and others stay as they are.
        Lights that are not flashes stay where they are.
        """
        if self.given is None or not len(self.given):
            return cameras
        if views is not None:
            return corrected(cameras, self.corrections()[views])
        difference = (cameras.camera_to_world[:, None] - self.given).abs().amax(dim=(2, 3))
        least, view = difference.min(dim=1)
        correction = self.corrections()[view].where((least < SAME)[:, None, None], torch.eye(4).to(least))
        return corrected(cameras, correction)

    @torch.no_grad()
    def found(self, world_from_unit: Float64[np.ndarray, "4 4"]) -> list[dict[str, object]]:
        """What was learned, a mapping a view: the corrected pose in the source's frame (from the camera's frame, with
        OpenCV's axes), and by how much it is turned (degrees) and its centre shifted (the source's unit)."""
        assert self.given is not None
        given = self.given.double().cpu().numpy()
        corrected = self.corrections().double().cpu().numpy() @ given
        cosine = (np.trace(given[:, :3, :3].transpose(0, 2, 1) @ corrected[:, :3, :3], axis1=1, axis2=2) - 1) / 2
        turned = np.degrees(np.arccos(cosine.clip(-1, 1)))
        shifted = frame_scale(world_from_unit) * np.linalg.norm(corrected[:, :3, 3] - given[:, :3, 3], axis=1)
        return [
            {"camera_to_world": pose.tolist(), "turned_degrees": float(angle), "shifted": float(shift)}
            for pose, angle, shift in zip(moved_poses(corrected, world_from_unit), turned, shifted, strict=True)
        ]


def corrected(cameras: Cameras, corrections: Float[Tensor, "n 4 4"]) -> Cameras:
    """Each camera with its own correction, without gradient: rasterisation has none for cameras."""
    return replace(cameras, camera_to_world=corrections.detach() @ cameras.camera_to_world)


def moved_against(corrections: Float[Tensor, "n 4 4"], vertices: Float[Tensor, "v 3"]) -> list[Float[Tensor, "v 3"]]:
    """The vertices once for each corrected camera, where they are, but with gradient to its correction: they move
    against it."""
    motion = torch.linalg.inv(corrections) @ corrections.detach() - torch.eye(4).to(vertices)
    return [vertices + (vertices @ each[:3, :3].mT + each[:3, 3]) for each in motion]


def rigid(twists: Float[Tensor, "n 6"]) -> Float[Tensor, "n 4 4"]:
    """Rigid motions exp(twist), of a rotation vector and a translation each (Murray, Li and Sastry 1994, "A
    Mathematical Introduction to Robotic Manipulation", section 2.3)."""
    x, y, z, *shift = twists.unbind(1)
    zero = torch.zeros_like(x)
    rows = [[zero, -z, y, shift[0]], [z, zero, -x, shift[1]], [-y, x, zero, shift[2]], [zero] * 4]
    return torch.linalg.matrix_exp(torch.stack([torch.stack(row, dim=1) for row in rows], dim=1))
