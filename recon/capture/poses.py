"""Camera poses as sources give them, made rigid."""

import numpy as np
from jaxtyping import Float

from recon.capture.notes import listed
from recon.errors import ReconError
from recon.frames import frame_scale

ROUNDING = 1e-3
"""How far R R^T may be from the identity: files that people write by hand or in text are rounded."""


def rigid_pose(
    rotation: Float[np.ndarray, "3 3"], center: Float[np.ndarray, " 3"], where: str, *, may_scale: bool = False
) -> Float[np.ndarray, "4 4"]:
    """Camera-to-world matrix with the rotation nearest to `rotation` (polar decomposition).

    A uniform scale, which means nothing for a camera, is taken off where it `may_scale`; `scale_note` says so.

    Raises:
        ReconError: `rotation` is no rotation even up to rounding, or a number is not finite.
    """
    if not (np.isfinite(rotation).all() and np.isfinite(center).all()):
        raise ReconError(f"{where}: a number of the pose is not finite")
    gram = rotation @ rotation.T
    if np.linalg.det(rotation) < 0:
        raise ReconError(f"{where}: the upper 3x3 block mirrors (its determinant is negative), expected a rotation")
    if np.abs(gram - np.eye(3)).max() > ROUNDING:
        scale = scale_of(rotation)
        uniform = scale > 0 and np.abs(gram / scale**2 - np.eye(3)).max() <= ROUNDING
        if not (uniform and may_scale):
            found = f"it scales by {scale:.4g}" if uniform else "its columns are not orthonormal"
            raise ReconError(f"{where}: the upper 3x3 block is no rotation: {found}")
        rotation = rotation / scale
    u, _, vt = np.linalg.svd(rotation)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = u @ vt, center
    return pose


def scale_of(rotation: Float[np.ndarray, "3 3"]) -> float:
    """By how much a scaled rotation scales."""
    return float(np.sqrt(np.square(rotation).sum() / 3))


def scale_note(where: str, rotations: list[Float[np.ndarray, "3 3"]], names: list[str]) -> list[str]:
    """The line about cameras whose matrices scale by more than rounding; none where none does."""
    scales = {name: scale_of(rotation) for name, rotation in zip(names, rotations, strict=True)}
    odd = {name: scale for name, scale in scales.items() if abs(scale**2 - 1) > ROUNDING}
    if not odd:
        return []
    low, high = min(odd.values()), max(odd.values())
    by = f"{low:.4g}" if np.isclose(low, high) else f"{low:.4g} to {high:.4g}"
    return [f"{where}: {listed(list(odd))}: the matrix scales by {by}, which means nothing for a camera: taken off"]


def poses_in_unit_frame(
    camera_to_world: Float[np.ndarray, "n 4 4"], world_from_unit: Float[np.ndarray, "4 4"]
) -> Float[np.ndarray, "n 4 4"]:
    """Rigid poses in the unit frame, of rigid poses in the source's frame."""
    poses = np.linalg.inv(world_from_unit) @ camera_to_world
    poses[:, :3, :3] *= frame_scale(world_from_unit)
    return poses
