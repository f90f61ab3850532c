"""Data of IRON: `cam_dict_norm.json` beside `image/` (and `mask/`), with the object inside the unit sphere."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from recon.capture.framing import Wishes
from recon.capture.posed import Posed, by_stem, pictures_in, views_from_posed
from recon.capture.poses import rigid_pose
from recon.errors import ReconError
from recon.views import Views

FILE = "cam_dict_norm.json"


def is_iron(folder: Path) -> bool:
    return (folder / FILE).is_file()


def iron_files(folder: Path) -> list[Path]:
    """All files that extraction may read."""
    return [folder / FILE, *pictures_in(folder / "image"), *pictures_in(folder / "mask")]


def views_from_iron(folder: Path, set_name: str, wishes: Wishes) -> Views:
    """The viewpoint set of the folder; where nothing else is wished for, the unit sphere is the file's own.

    Raises:
        ReconError: the file is damaged; a picture is not there; a matrix is no camera.
    """
    path = folder / FILE
    try:
        entries = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ReconError(f"{path}: not JSON: {error}") from None
    if not isinstance(entries, dict) or not entries:
        raise ReconError(f"{path}: must be a mapping of pictures to cameras, and names none")
    masks = by_stem(folder / "mask")
    posed = [_posed(folder, name, entries[name], masks, f"{path}: '{name}'") for name in sorted(entries)]
    if wishes.like is None and wishes.sphere is None:
        wishes = wishes._replace(sphere=(0.0, 0.0, 0.0, 1.0))
    return views_from_posed(
        posed, folder, set_name, wishes, missing="has no mask in mask/", listing=[path], settings={"format": "IRON"}
    )


def _posed(folder: Path, name: str, entry: Any, masks: dict[str, Path], where: str) -> Posed:
    intrinsics, camera_from_world = (_matrix(entry, key, where) for key in ("K", "W2C"))
    if intrinsics[0, 0] <= 0 or intrinsics[1, 1] <= 0 or abs(intrinsics[0, 1]) > 1e-3 * intrinsics[0, 0]:
        raise ReconError(f"{where}: 'K' must have positive focal lengths and no skew")
    intrinsics[0, 1] = 0
    rotation = camera_from_world[:3, :3].T
    pose = rigid_pose(rotation, -rotation @ camera_from_world[:3, 3], f"{where}: 'W2C'")
    size = entry.get("img_size")
    width, height = size if isinstance(size, list) and len(size) == 2 else (None, None)
    return Posed(
        f"image {name}",
        folder / "image" / name,
        masks.get(Path(name).stem),
        pose,
        intrinsics[:3, :3],
        None if width is None or height is None else (int(height), int(width)),
    )


def _matrix(entry: Any, key: str, where: str) -> Float[np.ndarray, "4 4"]:
    values = entry.get(key) if isinstance(entry, dict) else None
    try:
        matrix = np.array(values, np.float64).reshape(4, 4)
    except (TypeError, ValueError):
        raise ReconError(f"{where}: '{key}' must be 16 numbers") from None
    if not np.isfinite(matrix).all():
        raise ReconError(f"{where}: '{key}' must be finite")
    return matrix
