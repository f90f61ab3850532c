"""Viewpoints alone: `keyframes.npz`, as exported from Blender."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from recon.capture.poses import rigid_pose
from recon.errors import ReconError
from recon.files import atomic, read_npz


@dataclass(frozen=True, eq=False)
class Keyframes:
    """`n` poses of one pinhole camera.

    Attributes:
        camera_to_world: rigid; OpenCV axes (x right, y down, z forward).
        intrinsics: in pixels, the same for all; pixel centres lie at half-integers.
        size: (height, width) where the principal point is not the image's centre.
    """

    camera_to_world: Float64[np.ndarray, "n 4 4"]
    intrinsics: Float64[np.ndarray, "3 3"]
    size: tuple[int, int] | None = None

    @property
    def resolution(self) -> tuple[int, int]:
        """(height, width)."""
        return self.size or self.centered_size

    @property
    def centered_size(self) -> tuple[int, int]:
        """(height, width) of an image about the principal point."""
        return round(2 * float(self.intrinsics[1, 2])), round(2 * float(self.intrinsics[0, 2]))


def read_keyframes(path: str | Path) -> Keyframes:
    """Read `K`, `R_0` ... `R_{n-1}` (camera-to-world) and `T_0` ... `T_{n-1}` (camera centres).

    The image size is twice the principal point, unless the file says otherwise in `height` and `width`,
    which the reference work's files have not.

    Raises:
        ReconError: no readable archive; a key is missing or has a wrong shape; `K` is no pinhole
            matrix; an `R_i` is no rotation; a number is not finite.
    """
    arrays = read_npz(path)
    count = sum(key.startswith("R_") for key in arrays)
    if count == 0:
        raise ReconError(f"{path}: key 'R_0' is missing: there is no viewpoint")
    intrinsics = _array(arrays, "K", (3, 3), path)
    size = _size(arrays, path)
    _check_pinhole(intrinsics, path, size)
    poses = [
        rigid_pose(_array(arrays, f"R_{i}", (3, 3), path), _array(arrays, f"T_{i}", (3,), path), f"{path}: key 'R_{i}'")
        for i in range(count)
    ]
    return Keyframes(np.stack(poses), intrinsics, size)


def write_keyframes(keyframes: Keyframes, path: str | Path) -> None:
    """Write `keyframes`, whole or not at all; the size only where the principal point does not give it."""
    arrays = {"K": keyframes.intrinsics}
    if keyframes.resolution != keyframes.centered_size:
        arrays["height"], arrays["width"] = (np.array(length) for length in keyframes.resolution)
    for i, pose in enumerate(keyframes.camera_to_world):
        arrays[f"R_{i}"], arrays[f"T_{i}"] = pose[:3, :3], pose[:3, 3]
    with atomic(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)


def _array(
    arrays: dict[str, np.ndarray], key: str, shape: tuple[int, ...], path: str | Path
) -> Float64[np.ndarray, "..."]:
    if key not in arrays:
        raise ReconError(f"{path}: key '{key}' is missing")
    array = arrays[key]
    # Blender's vectors are often stored as columns.
    if array.size != np.prod(shape) or array.dtype.kind not in "fiu":
        raise ReconError(f"{path}: key '{key}' must hold numbers of shape {shape}, got {array.dtype} {array.shape}")
    return array.reshape(shape).astype(np.float64)


def _size(arrays: dict[str, np.ndarray], path: str | Path) -> tuple[int, int] | None:
    if "height" not in arrays and "width" not in arrays:
        return None
    height, width = (_array(arrays, key, (), path) for key in ("height", "width"))
    for key, length in (("height", height), ("width", width)):
        if not 1 <= length < 1e6 or length != np.round(length):
            raise ReconError(f"{path}: key '{key}' must be a number of pixels, got {length:g}")
    return int(height), int(width)


def _check_pinhole(matrix: Float64[np.ndarray, "3 3"], path: str | Path, size: tuple[int, int] | None) -> None:
    if not np.isfinite(matrix).all() or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise ReconError(f"{path}: key 'K': focal lengths must be positive and all numbers finite")
    if matrix[1, 0] != 0 or not np.array_equal(matrix[2], [0, 0, 1]):
        raise ReconError(f"{path}: key 'K' must be [[fx s cx] [0 fy cy] [0 0 1]]")
    if size is None and min(matrix[0, 2], matrix[1, 2]) < 1:
        raise ReconError(f"{path}: key 'K': the principal point must lie at half the image size in pixels")
