"""Camera poses as sources give them, made rigid."""

import numpy as np
from jaxtyping import Float

from recon.errors import ReconError

ROUNDING = 1e-3
"""How far R R^T may be from the identity: files that people write by hand or in text are rounded."""


def rigid_pose(
    rotation: Float[np.ndarray, "3 3"], center: Float[np.ndarray, " 3"], where: str
) -> Float[np.ndarray, "4 4"]:
    """Camera-to-world matrix with the rotation nearest to `rotation` (polar decomposition).

    Raises:
        ReconError: `rotation` is no rotation even up to rounding, or a number is not finite.
    """
    if not (np.isfinite(rotation).all() and np.isfinite(center).all()):
        raise ReconError(f"{where}: a number of the pose is not finite")
    gram = rotation @ rotation.T
    if np.linalg.det(rotation) < 0:
        raise ReconError(f"{where}: the upper 3x3 block mirrors (its determinant is negative), expected a rotation")
    if np.abs(gram - np.eye(3)).max() > ROUNDING:
        scale = np.sqrt(np.trace(gram) / 3)
        scaled = np.abs(gram - scale**2 * np.eye(3)).max() <= ROUNDING * scale**2
        found = f"it scales by {scale:.4g}" if scaled else "its columns are not orthonormal"
        raise ReconError(f"{where}: the upper 3x3 block is no rotation: {found}")
    u, _, vt = np.linalg.svd(rotation)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = u @ vt, center
    return pose


def poses_in_unit_frame(
    camera_to_world: Float[np.ndarray, "n 4 4"], world_from_unit: Float[np.ndarray, "4 4"]
) -> Float[np.ndarray, "n 4 4"]:
    """Rigid poses in the unit frame, of rigid poses in the source's frame."""
    poses = np.linalg.inv(world_from_unit) @ camera_to_world
    poses[:, :3, :3] *= np.cbrt(np.linalg.det(world_from_unit[:3, :3]))
    return poses
