"""Photometric stereo from many views: an object's folder in the layout of DiLiGenT-MV (Li et al. 2020).

    Calib_Results.mat                KK, and Rc_i, Tc_i of view i: the world to the camera's axes
    view_01/001.png, 002.png, ...    linear, 16 bits, one a light; filenames.txt may name them instead
    view_01/mask.png
    view_01/light_directions.txt     one line a light: from the object to the light; x right, y up, z to the camera
    view_01/light_intensities.txt    one line a light: red, green, blue

The two tables of lights may also lie in the object's folder, for all views. KK counts pixels from 0 at
the centre of the first, as the toolbox that writes such files does. Its distortion `kc` is not applied:
the published pictures go with KK alone.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32

from recon.capture.normalise import frame_from_masks
from recon.capture.poses import poses_in_unit_frame, rigid_pose
from recon.capture.provenance import provenance
from recon.errors import ReconError
from recon.frames import frame_rotation
from recon.images.photograph import read_mask, read_picture
from recon.views import Frame, Views

LIGHT_COSINE = 0.65
"""Least cosine between a light and the viewing axis, as in the code of Cheng et al. 2022."""

CALIBRATION = "Calib_Results.mat"

OPENCV_FROM_LIGHTS = np.diag([1.0, -1.0, -1.0])
"""The tables' axes (x right, y up, z to the camera) as x right, y down, z forward."""


class LitView(NamedTuple):
    """One view: its mask, its pose, and of each chosen light the picture, intensity and direction.

    `directions` are unit vectors from the object to the light, in the world.
    """

    mask: Bool[np.ndarray, "h w"]
    pose: Float[np.ndarray, "4 4"]
    pictures: list[Path]
    intensities: Float[np.ndarray, "k 3"]
    directions: Float[np.ndarray, "k 3"]
    files: list[Path]


def is_diligent(folder: Path) -> bool:
    """Whether a folder looks like one object of DiLiGenT-MV, or holds several."""
    return (folder / CALIBRATION).is_file() or bool(_view_folders(folder)) or bool(_objects(folder))


def views_from_diligent(
    folder: Path, set_name: str, like: Frame | None = None, light_cosine: float = LIGHT_COSINE
) -> Views:
    """Each view under each of its nearly collocated lights, as one image with its `light_direction`.

    A light is chosen where its cosine to the viewing axis is above `light_cosine`. `like`: take unit
    frame and radiance scale from there.

    Raises:
        ReconError: a file is missing, unreadable or of another size; the calibration lacks a view; a
            light has no direction or intensity; no light of a view is near enough to its axis.
    """
    numbered = _view_folders(folder)
    if not numbered:
        objects = ", ".join(path.name for path in _objects(folder))
        hint = f"; choose one of its objects: {objects}" if objects else ""
        raise ReconError(f"{folder}: has no folder 'view_01', expected an object of DiLiGenT-MV{hint}")
    matrix, poses = _calibration(folder / CALIBRATION, list(numbered))
    views = [_lit_view(view, folder, pose, light_cosine) for view, pose in zip(numbered.values(), poses, strict=True)]
    masks = _equal_masks(views, list(numbered.values()))
    images = _images(views, masks.shape[1:])
    peak = float(images.max())
    if peak <= 0:
        raise ReconError(f"{folder}: all pictures are black")
    if like is None:
        intrinsics = np.tile(matrix, (len(masks), 1, 1))
        world_from_unit, framed_by = frame_from_masks(np.stack(poses), intrinsics, masks, str(folder)), "masks"
    else:
        world_from_unit, framed_by, peak = like.world_from_unit, "like", like.radiance_scale
    images /= np.float32(peak)
    counts = [len(view.pictures) for view in views]
    names = [str(path.relative_to(folder)) for view in views for path in view.pictures]
    settings: dict[str, Any] = {"light_cosine": light_cosine, "framed_by": framed_by, "pictures": names}
    inputs = [folder / CALIBRATION, *(file for view in views for file in [*view.files, *view.pictures])]
    return Views(
        images=images,
        masks=np.repeat(masks.astype(np.uint8) * 255, counts, axis=0),
        camera_to_world=np.repeat(poses_in_unit_frame(np.stack(poses), world_from_unit), counts, axis=0),
        intrinsics=np.tile(matrix, (len(images), 1, 1)),
        radiance_scale=peak,
        world_from_unit=world_from_unit,
        light_direction=np.concatenate([view.directions for view in views]) @ frame_rotation(world_from_unit),
        metadata=provenance(set_name, folder, inputs, settings, ["scipy", "opencv-python-headless"]),
    )


def _view_folders(folder: Path) -> dict[int, Path]:
    """The views by their numbers, in order."""
    found = {int(path.name[5:]): path for path in folder.glob("view_*") if re.fullmatch(r"view_\d+", path.name)}
    return dict(sorted(found.items()))


def _objects(folder: Path) -> list[Path]:
    return sorted(
        path.parent for path in [*folder.glob(f"*/{CALIBRATION}"), *folder.glob(f"mvpmsData/*/{CALIBRATION}")]
    )


def _calibration(path: Path, numbers: list[int]) -> tuple[Float[np.ndarray, "3 3"], list[Float[np.ndarray, "4 4"]]]:
    """Intrinsics, with pixel centres at half-integers, and camera-to-world poses of the views."""
    from scipy.io import loadmat

    if not path.is_file():
        raise ReconError(f"{path}: no such file; expected the cameras there")
    try:
        content = loadmat(path)
    except NotImplementedError:
        raise ReconError(f"{path}: is of MATLAB's version 7.3, which is not read; save it with '-v7'") from None
    except Exception as error:  # scipy's reader raises whatever a broken file makes it stumble over
        raise ReconError(f"{path}: not a readable MATLAB file: {' '.join(str(error).split())}") from error
    matrix = _array(content, "KK", (3, 3), path)
    if min(matrix[0, 0], matrix[1, 1]) <= 0 or matrix[1, 0] != 0 or not np.array_equal(matrix[2], [0, 0, 1]):
        raise ReconError(f"{path}: key 'KK' must be [[fx s cx] [0 fy cy] [0 0 1]] with positive focal lengths")
    matrix[:2, 2] += 0.5
    poses = []
    for number in numbers:
        rotation, shift = _array(content, f"Rc_{number}", (3, 3), path), _array(content, f"Tc_{number}", (3,), path)
        poses.append(rigid_pose(rotation.T, -rotation.T @ shift, f"{path}: key 'Rc_{number}'"))
    return matrix, poses


def _array(content: dict[str, Any], key: str, shape: tuple[int, ...], path: Path) -> Float[np.ndarray, "..."]:
    if key not in content:
        raise ReconError(f"{path}: key '{key}' is missing")
    array = np.asarray(content[key])
    if array.size != np.prod(shape) or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise ReconError(
            f"{path}: key '{key}' must hold finite numbers of shape {shape}, got {array.dtype} {array.shape}"
        )
    return array.reshape(shape).astype(np.float64)


def _lit_view(view: Path, folder: Path, pose: Float[np.ndarray, "4 4"], light_cosine: float) -> LitView:
    directions, directions_file = _table(view, folder, "light_directions.txt")
    intensities, intensities_file = _table(view, folder, "light_intensities.txt")
    if len(intensities) != len(directions):
        raise ReconError(f"{intensities_file}: has {len(intensities)} lights, {directions_file} has {len(directions)}")
    if (intensities <= 0).any():
        line = int((intensities <= 0).any(axis=1).argmax()) + 1
        raise ReconError(f"{intensities_file}: line {line}: intensities must be positive")
    lengths = np.linalg.norm(directions, axis=1)
    if (lengths < 1e-6).any():
        raise ReconError(f"{directions_file}: line {int(lengths.argmin()) + 1}: is no direction")
    pictures, files = _pictures(view, len(directions))
    directions = directions / lengths[:, None]
    chosen = np.flatnonzero(directions[:, 2] > light_cosine)
    if len(chosen) == 0:
        raise ReconError(
            f"{directions_file}: no light has a cosine to the viewing axis above {light_cosine:g}; "
            f"the nearest has {directions[:, 2].max():.3g} ('--light-cosine')"
        )
    world = directions[chosen] @ OPENCV_FROM_LIGHTS @ pose[:3, :3].T
    mask = view / "mask.png"
    files = [mask, directions_file, intensities_file, *files]
    return LitView(read_mask(mask), pose, [pictures[i] for i in chosen], intensities[chosen], world, files)


def _table(view: Path, folder: Path, name: str) -> tuple[Float[np.ndarray, "m 3"], Path]:
    """A table of three numbers a light, of the view or else of the object."""
    path = next((place / name for place in (view, folder) if (place / name).is_file()), None)
    if path is None:
        raise ReconError(f"{view / name}: no such file; expected three numbers a light")
    rows = path.read_text(encoding="utf-8", errors="replace").split("\n")
    try:
        table = np.array([[float(word) for word in row.split()] for row in rows if row.strip()])
    except ValueError:
        table = np.empty(0)
    if table.ndim != 2 or table.shape[1] != 3 or not np.isfinite(table).all():
        raise ReconError(f"{path}: must hold three finite numbers a line, one line a light")
    return table, path


def _pictures(view: Path, count: int) -> tuple[list[Path], list[Path]]:
    """The pictures by their lights, and the file that names them, if any."""
    listed = view / "filenames.txt"
    if listed.is_file():
        names = listed.read_text(encoding="utf-8", errors="replace").split()
        pictures, files = [view / name for name in names], [listed]
    else:
        pictures, files = sorted(path for path in view.glob("*.png") if path.stem.isdecimal()), []
    if len(pictures) != count:
        raise ReconError(f"{view}: has {len(pictures)} pictures, expected {count}, one a light")
    return pictures, files


def _equal_masks(views: list[LitView], folders: list[Path]) -> Bool[np.ndarray, "v h w"]:
    shape = views[0].mask.shape
    for view, path in zip(views, folders, strict=True):
        _check_size(path / "mask.png", view.mask.shape, shape, folders[0] / "mask.png")
    return np.stack([view.mask for view in views])


def _check_size(path: Path, found: tuple[int, ...], expected: tuple[int, ...], model: Path) -> None:
    if found != expected:
        raise ReconError(
            f"{path}: has {found[1]}x{found[0]} pixels, expected {expected[1]}x{expected[0]} as {model} has"
        )


def _images(views: list[LitView], size: tuple[int, ...]) -> Float32[np.ndarray, "n h w 3"]:
    """All chosen pictures, divided by their lights' intensities."""
    lit = [(path, power, view) for view in views for path, power in zip(view.pictures, view.intensities, strict=True)]
    images = np.empty((len(lit), *size, 3), np.float32)
    for i, (path, power, view) in enumerate(lit):
        color = read_picture(path, "linear").color
        _check_size(path, color.shape[:2], size, view.files[0])
        images[i] = color / power.astype(np.float32)
    return images
