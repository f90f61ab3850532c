"""Raw data that Polycam exports: `keyframes/cameras/TIME.json` with `keyframes/images/TIME.jpg`.

After Polycam has optimised the poses they stand in `corrected_cameras`, with the pictures in `corrected_images`; these
are taken where they are there. `t_00` to `t_23` are camera-to-world, with ARKit's axes (x right, y up, z backward), in
metres.
"""

import json
from pathlib import Path

import numpy as np

from recon.capture.framing import Wishes
from recon.capture.posed import Posed, by_stem, views_from_posed
from recon.capture.poses import rigid_pose
from recon.errors import ReconError
from recon.views import Views

OPENCV_FROM_ARKIT = np.diag([1.0, -1.0, -1.0])


def find_polycam(folder: Path) -> tuple[Path, Path] | None:
    """The folders of cameras and pictures; None where `folder` is something else."""
    for prefix in ("corrected_", ""):
        cameras, images = (folder / "keyframes" / f"{prefix}{name}" for name in ("cameras", "images"))
        if cameras.is_dir() and images.is_dir() and any(cameras.glob("*.json")):
            return cameras, images
    return None


def polycam_files(folder: Path) -> list[Path]:
    """All files that extraction may read."""
    found = find_polycam(folder)
    return [] if found is None else sorted(path for place in found for path in place.iterdir() if path.is_file())


def views_from_polycam(folder: Path, set_name: str, wishes: Wishes) -> Views:
    """The viewpoint set of the folder, in ARKit's frame.

    Raises:
        ReconError: a file is damaged, or has no picture.
    """
    found = find_polycam(folder)
    assert found is not None  # the caller has found it
    pictures = by_stem(found[1])
    listing = sorted(found[0].glob("*.json"))
    posed = [_posed(path, pictures) for path in listing]
    kind = {"format": "Polycam", "cameras": found[0].name}
    return views_from_posed(posed, folder, set_name, wishes, missing="has no mask", listing=listing, settings=kind)


def _posed(path: Path, pictures: dict[str, Path]) -> Posed:
    if path.stem not in pictures:
        raise ReconError(f"{path}: has no picture of its name in {path.parent.name.replace('cameras', 'images')}/")
    try:
        entry = json.loads(path.read_text())
        matrix = np.array([[float(entry[f"t_{row}{column}"]) for column in range(4)] for row in range(3)])
        focal, center = ([float(entry[f"{key}{axis}"]) for axis in "xy"] for key in "fc")
        size = int(entry["height"]), int(entry["width"])
    except (OSError, ValueError, TypeError) as error:
        raise ReconError(f"{path}: not a camera of Polycam: {error}") from None
    except KeyError as error:
        raise ReconError(f"{path}: not a camera of Polycam: key {error} is missing") from None
    if min(focal) <= 0:
        raise ReconError(f"{path}: focal lengths must be positive")
    pose = rigid_pose(matrix[:, :3], matrix[:, 3], str(path))
    pose[:3, :3] = pose[:3, :3] @ OPENCV_FROM_ARKIT
    intrinsics = np.array([[focal[0], 0, center[0]], [0, focal[1], center[1]], [0, 0, 1]])
    picture = pictures[path.stem]
    return Posed(f"image {picture.name}", picture, None, pose, intrinsics, size)
