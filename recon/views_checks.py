"""What has to hold of the arrays of a viewpoint set, in memory or in its file: each fault is one line that names file,
key and view."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recon.errors import ReconError
from recon.frames import frame_scale
from recon.npz import StoredArray

FORMAT_VERSION = 1
ROTATION_TOLERANCE = 1e-4

REQUIRED = ("images", "camera_to_world", "intrinsics", "radiance_scale", "world_from_unit", "metadata")
"""The keys that a file must have."""

PIXELS = ("images", "masks", "known", "backgrounds", "albedo", "roughness")
"""The keys with a picture a view. Of these a file may be read view by view; all else of it is small."""

POINTS = ("points", "observations")
"""The keys of points that structure from motion found; a set has both or neither."""

Arrays = Mapping[str, np.ndarray | StoredArray]
"""The numeric keys of a viewpoint set; those of `PIXELS` may be on the disk."""

Small = Mapping[str, Any]
"""The same, where only arrays in memory are looked at."""


def check_keys(arrays: Arrays, path: str | Path) -> None:
    """Raise `ReconError` where the file `path` lacks a key."""
    for key in REQUIRED:
        if key not in arrays:
            raise ReconError(f"{path}: key '{key}' is missing")


def parsed_metadata(text: np.ndarray, path: str | Path) -> dict[str, Any]:
    """The metadata as the file `path` has them.

    Raises:
        ReconError: they are no JSON object, or of a format that is not known.
    """
    try:
        metadata = json.loads(str(text))
    except json.JSONDecodeError as error:
        raise ReconError(f"{path}: key 'metadata' is not JSON text: {error}") from None
    if not isinstance(metadata, dict):
        raise ReconError(f"{path}: key 'metadata' must be a JSON object, got {type(metadata).__name__}")
    if metadata.get("format", FORMAT_VERSION) != FORMAT_VERSION:
        raise ReconError(f"{path}: format version {metadata['format']}, this recon reads {FORMAT_VERSION}")
    return metadata


def check_arrays(arrays: Arrays, path: str | Path, *, empty_masks: bool = False) -> None:
    """Raise `ReconError` where the arrays break the contract (`recon.views.Views`).

    Those on the disk are read once for it, view by view. `empty_masks`: an empty mask breaks nothing.
    """
    _check_shapes(arrays, path)
    _check_geometry(arrays, path)
    _check_points(arrays, path)
    _check_known(arrays, path)
    if not empty_masks:
        _check_masks(arrays, path)


def _check_shapes(arrays: Arrays, path: str | Path) -> None:
    images = arrays["images"]
    if len(images.shape) != 4 or images.shape[3] != 3 or 0 in images.shape:
        raise ReconError(f"{path}: key 'images' must have shape (N, H, W, 3), got {images.shape}")
    n, height, width, _ = images.shape
    expected: dict[str, tuple[tuple[int, ...], str]] = {
        "images": (images.shape, "float32"),
        "masks": ((n, height, width), "uint8"),
        "known": ((n, height, width), "uint8"),
        "backgrounds": (images.shape, "float32"),
        "albedo": (images.shape, "float32"),
        "roughness": ((n, height, width), "float32"),
        "camera_to_world": ((n, 4, 4), "float64"),
        "intrinsics": ((n, 3, 3), "float64"),
        "radiance_scale": ((), "float64"),
        "world_from_unit": ((4, 4), "float64"),
        "light_position": ((n, 3), "float64"),
        "light_direction": ((n, 3), "float64"),
        "points": ((*_length(arrays, "points"), 3), "float32"),
        "observations": ((*_length(arrays, "observations"), 2), "int32"),
    }
    for key, (shape, dtype) in expected.items():
        if key not in arrays:
            continue
        array = arrays[key]
        if array.shape != shape:
            raise ReconError(f"{path}: key '{key}' must have shape {shape}, got {array.shape}")
        if array.dtype != dtype:
            raise ReconError(f"{path}: key '{key}' must be {dtype}, got {array.dtype}")
        if array.dtype.kind == "f":
            _check_finite(array, f"{path}: key '{key}'", bool(shape) and key not in ("world_from_unit", *POINTS))


def _length(arrays: Arrays, key: str) -> tuple[int, ...]:
    return arrays[key].shape[:1] if key in arrays else ()


def _check_finite(array: np.ndarray | StoredArray, where: str, of_views: bool) -> None:
    """`of_views`: its rows are those of views, one of which is named."""
    for i, row in enumerate(array if of_views else [array]):
        if not np.isfinite(row).all():
            raise ReconError(f"{where} has a value that is not finite{f' in view {i}' if of_views else ''}")


def _check_geometry(arrays: Small, path: str | Path) -> None:
    for i, (pose, matrix) in enumerate(zip(arrays["camera_to_world"], arrays["intrinsics"], strict=True)):
        rotation = pose[:3, :3]
        orthonormal = np.allclose(rotation @ rotation.T, np.eye(3), atol=ROTATION_TOLERANCE)
        if not orthonormal or np.linalg.det(rotation) < 0:
            raise ReconError(f"{path}: key 'camera_to_world', view {i}: the upper 3x3 block is no rotation")
        if not np.array_equal(pose[3], [0, 0, 0, 1]):
            raise ReconError(f"{path}: key 'camera_to_world', view {i}: the last row must be 0 0 0 1")
        if matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
            raise ReconError(f"{path}: key 'intrinsics', view {i}: focal lengths must be positive")
        if not np.array_equal(matrix[2], [0, 0, 1]) or matrix[1, 0] != 0:
            raise ReconError(f"{path}: key 'intrinsics', view {i}: must be [[fx s cx] [0 fy cy] [0 0 1]]")
    if arrays["radiance_scale"] <= 0:
        raise ReconError(f"{path}: key 'radiance_scale' must be positive, got {float(arrays['radiance_scale'])}")
    block = arrays["world_from_unit"][:3, :3]
    scale = frame_scale(arrays["world_from_unit"])
    if scale <= 0 or not np.allclose(block @ block.T, scale**2 * np.eye(3), atol=ROTATION_TOLERANCE * scale**2):
        raise ReconError(f"{path}: key 'world_from_unit' must be a similarity (rotation, scale, translation)")
    if "light_direction" in arrays:
        if "light_position" in arrays:
            raise ReconError(f"{path}: has both keys 'light_position' and 'light_direction', expected one at most")
        lengths = np.linalg.norm(arrays["light_direction"], axis=1)
        if (wrong := np.abs(lengths - 1) > ROTATION_TOLERANCE).any():
            view = wrong.argmax()
            raise ReconError(
                f"{path}: key 'light_direction', view {view}: must be a unit vector, has length {lengths[view]:.4g}"
            )


def _check_points(arrays: Small, path: str | Path) -> None:
    if ("points" in arrays) != ("observations" in arrays):
        missing = POINTS["points" in arrays]
        raise ReconError(f"{path}: key '{missing}' is missing: 'points' and 'observations' belong together")
    if "points" not in arrays:
        return
    observations, views = arrays["observations"], len(arrays["camera_to_world"])
    for name, column, count in zip(("point", "view"), observations.T, (len(arrays["points"]), views), strict=True):
        if len(column) and not (column.min() >= 0 and column.max() < count):
            raise ReconError(f"{path}: key 'observations': names a {name} that is not there, expected 0 to {count - 1}")
    order = np.diff(observations.astype(np.int64) @ [views, 1])
    if not (order > 0).all():
        raise ReconError(f"{path}: key 'observations': must be sorted by point, then view, each pair once")


def _check_known(arrays: Arrays, path: str | Path) -> None:
    for i, known in enumerate(arrays.get("known", ())):
        if not known.any():
            raise ReconError(f"{path}: key 'known', view {i}: no pixel is known")
        if ((known > 0) & (known < 255)).any():
            raise ReconError(f"{path}: key 'known', view {i}: must be 0 or 255")


def _check_masks(arrays: Arrays, path: str | Path) -> None:
    for i, mask in enumerate(arrays.get("masks", ())):
        if not mask.any():
            raise ReconError(f"{path}: key 'masks', view {i}: the mask is empty")
