"""Sparse models of COLMAP: `sparse/0`, its photographs in `images/`, and masks in `masks/` by their names.

COLMAP's cameras have our axes, and the centre of their first pixel lies at (0.5, 0.5) too.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path, PurePath, PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from recon.capture.framing import NO_WISHES, Points, Wishes
from recon.capture.notes import listed
from recon.capture.posed import Posed, is_picture, pictures_in, unused_masks, views_from_posed
from recon.capture.poses import rigid_pose
from recon.errors import ReconError
from recon.images.photograph import SUFFIXES
from recon.views import Views

MODELS: dict[str, tuple[str, ...]] = {
    "SIMPLE_PINHOLE": ("f", "cx", "cy"),
    "PINHOLE": ("fx", "fy", "cx", "cy"),
    "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
    "RADIAL": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2"),
    "FULL_OPENCV": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
    "SIMPLE_RADIAL_FISHEYE": ("f", "cx", "cy", "k1"),
    "RADIAL_FISHEYE": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV_FISHEYE": ("fx", "fy", "cx", "cy", "k1", "k2", "k3", "k4"),
}
"""Camera models that are a pinhole, or that OpenCV can straighten, with their parameters in order."""

DISTORTION = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
"""OpenCV's coefficients in its order."""

FISHEYE = ("k1", "k2", "k3", "k4")
"""Those of its fisheye model."""


class Project(NamedTuple):
    """Where photographs, their masks and the sparse models lie."""

    images: Path
    masks: Path
    models: list[Path]


def find_project(folder: Path) -> Project | None:
    """The models of a project, by their numbers; or that of `image_undistorter`, or one that is given itself."""
    numbered = [path for path in (folder / "sparse").glob("*") if path.name.isdecimal() and _is_model(path)]
    if numbered:
        return _project(folder, sorted(numbered, key=lambda path: int(path.name)))
    if _is_model(folder / "sparse"):
        return _project(folder, [folder / "sparse"])
    if not _is_model(folder):
        return None
    above = folder.resolve().parents
    root = next((place for place in (folder, *above[:2]) if (place / "images").is_dir()), folder)
    return _project(root, [folder])


def _project(root: Path, models: list[Path]) -> Project:
    return Project(root / "images", root / "masks", models)


def _is_model(folder: Path) -> bool:
    return any((folder / f"cameras{suffix}").is_file() for suffix in (".bin", ".txt"))


def find_pictures(folder: Path) -> Path | None:
    """The folder that holds the pictures: `folder/images`, or `folder` itself; None where neither has any."""
    for place in (folder / "images", folder):
        if pictures_in(place):
            return place
    return None


def project_files(project: Project) -> list[Path]:
    """All files that extraction may read."""
    folders = [*project.models, project.images, project.masks]
    return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())


def views_from_colmap(folder: Path, set_name: str, wishes: Wishes = NO_WISHES) -> Views:
    """The registered photographs of a sparse model, by name, recentred and scaled into the unit sphere.

    Of several models the one with the most photographs. The unit sphere comes from the masks, else from the
    sparse points that several cameras see, else from what moves, or from where the cameras look (`framed`).

    Raises:
        ReconError: there is no pycolmap; the model is damaged or has no photograph; a photograph or mask is
            missing, broken or of another size than its camera; masks are called like no photograph; a lens is not
            known.
    """
    project = find_project(folder)
    if project is None:
        raise ReconError(f"{folder}: no sparse model of COLMAP; expected sparse/0 with cameras, images and points3D")
    return views_from_project(project, folder, set_name, wishes)


def views_from_project(
    project: Project,
    folder: Path,
    set_name: str,
    wishes: Wishes = NO_WISHES,
    told: Sequence[str] | None = None,
    files_of: Mapping[str, str] = MappingProxyType({}),
) -> Views:
    """As `views_from_colmap`, where things lie elsewhere.

    Args:
        folder: what errors and provenance call the source.
        told: notes on the source, with those on photographs that are not registered.
        files_of: the names of photographs that the model has by another one.
    """
    notes = list(told or ())
    path, model = _largest(folder, project.models, notes)
    images = [image._replace(name=files_of.get(image.name, image.name)) for image in model.images]
    mask_files = find_masks(project.masks, [image.name for image in images])
    files = [(_photograph(folder, project, image.name), mask) for image, mask in zip(images, mask_files, strict=True)]
    lenses = [_lens(model.cameras[image.camera], f"{path}: image {image.name}") for image in images]
    posed = [
        Posed(f"image {image.name}", picture, mask, image.pose, matrix, size, distortion, fisheye)
        for image, (picture, mask), (matrix, size, distortion, fisheye) in zip(images, files, lenses, strict=True)
    ]
    if not any(mask_files) and (others := unused_masks(project.masks.parent)) is not None:
        notes.append(f"{folder}: no masks are taken, though {others} holds pictures; expected them in {project.masks}")
    if told is None:
        notes += _unregistered(folder, project.images, {image.name for image in images})
    return views_from_posed(
        posed,
        folder,
        set_name,
        wishes,
        missing="has no mask in masks/",
        listing=sorted(path.glob("*.*")),
        settings={"camera_models": sorted({camera.model_name for camera in model.cameras.values()})},
        packages=("pycolmap",),
        notes=notes,
        points=model.points,
    )


class Image(NamedTuple):
    """A registered photograph: its name in the model, its camera's number, and its camera-to-world pose."""

    name: str
    camera: int
    pose: Float[np.ndarray, "4 4"]


class Model(NamedTuple):
    """A sparse model: cameras by number, images by name, and the points with the images that see them."""

    cameras: dict[int, Any]
    images: list[Image]
    points: Points


def _largest(folder: Path, models: list[Path], notes: list[str]) -> tuple[Path, Model]:
    """The model with the most photographs, and a note where others are passed over."""
    if len(models) == 1:
        return models[0], read_model(models[0])
    found: dict[Path, Model] = {}
    faults: dict[Path, ReconError] = {}
    for model in models:
        try:
            found[model] = read_model(model)
        except ReconError as error:
            faults[model] = error
    if not found:
        raise next(iter(faults.values()))
    largest = max(found, key=lambda model: len(found[model].images))
    sizes = [
        f"{m.name} ({len(found[m].images)} photographs)" if m in found else f"{m.name} (unreadable)" for m in models
    ]
    notes.append(
        f"{folder}: sparse/ holds {len(models)} models, which share no frame: {', '.join(sizes)}; taken is "
        f"{largest.name}; another is extracted by its folder: {models[0] if models[0] != largest else models[1]}"
    )
    return largest, found[largest]


def _unregistered(folder: Path, place: Path, registered: set[str]) -> list[str]:
    names = [path.relative_to(place).as_posix() for path in _pictures(place)]
    others = [name for name in names if name not in registered]
    if not others:
        return []
    return [
        f"{folder}: {len(registered)} of {len(names)} photographs in {place.name}/ are registered; "
        f"left out: {listed(sorted(others))}"
    ]


def _pictures(folder: Path) -> list[Path]:
    return sorted(filter(is_picture, folder.rglob("*")))


def read_model(model: Path) -> Model:
    """The sparse model in the folder `model`, checked.

    Raises:
        ReconError: there is no pycolmap; the model is damaged, or no image is registered.
    """
    try:
        import pycolmap
    except ImportError:
        raise ReconError(
            f"{model}: models of COLMAP need pycolmap: pip install -e '.[colmap]' in recon's checkout"
        ) from None
    try:
        content = pycolmap.Reconstruction(str(model))
    except Exception as error:  # COLMAP's checks surface as whatever type its binding makes of them
        raise ReconError(f"{model}: not a readable model of COLMAP: {' '.join(str(error).split())}") from None
    _check_whole(model, content)
    images, number = list[Image](), {}
    for image in sorted(content.images.values(), key=lambda image: str(image.name)):
        if not image.has_pose:
            continue
        where = f"{model}: image {image.name}"
        if image.camera_id not in content.cameras:
            raise ReconError(f"{where}: there is no camera {image.camera_id}")
        camera_from_world = np.asarray(image.cam_from_world().matrix())
        rotation = camera_from_world[:, :3].T
        number[image.image_id] = len(images)
        pose = rigid_pose(rotation, -rotation @ camera_from_world[:, 3], where)
        images.append(Image(image.name, image.camera_id, pose))
    if not images:
        raise ReconError(f"{model}: the model has no registered image")
    names = [image.name for image in images]
    twice = next((name for name, next_name in pairwise(names) if name == next_name), None)  # they are sorted
    if twice is not None:
        raise ReconError(f"{model}: image {twice} is registered twice, with poses of its own each time")
    return Model(dict(content.cameras.items()), images, _points(content, number))


def _points(content: Any, number: dict[int, int]) -> Points:
    """The model's points; `number`: of each registered image, by COLMAP's."""
    by_number = sorted(content.points3D.items(), key=lambda item: int(item[0]))
    points = [point for _, point in by_number if np.isfinite(point.xyz).all()]
    places = np.array([point.xyz for point in points], np.float64).reshape(-1, 3)
    seen = [
        (i, number[element.image_id])
        for i, point in enumerate(points)
        for element in point.track.elements
        if element.image_id in number
    ]
    return Points(places, np.array(seen, np.int64).reshape(-1, 2))


def _check_whole(model: Path, content: Any) -> None:
    """COLMAP reads numbers past the end of a truncated file without complaint."""
    sizes = {
        "cameras.bin": 8 + sum(24 + 8 * len(camera.params) for camera in content.cameras.values()),
        "points3D.bin": 8 + sum(51 + 8 * point.track.length() for point in content.points3D.values()),
    }
    for name, size in sizes.items():
        path = model / name
        if path.is_file() and path.stat().st_size != size:
            raise ReconError(f"{path}: truncated or damaged: has {path.stat().st_size} bytes, expected {size}")


def _photograph(folder: Path, project: Project, name: str) -> Path:
    path = project.images / name
    if not path.is_file():
        raise ReconError(f"{folder}: image {name}: no such file in {project.images}")
    return path


def find_masks(folder: Path, names: list[str]) -> list[Path | None]:
    """The mask of each photograph: COLMAP calls that of `a.jpg` `a.jpg.png`; the same stem with any suffix does too.

    Raises:
        ReconError: there are masks, and none of them is called like a photograph; or two are.
    """
    root, pictures = folder.parent, _pictures(folder)
    by_name: dict[str, list[Path]] = {}
    for path in pictures:
        by_name.setdefault(_plain_suffix(path.relative_to(folder)), []).append(path)
    found = []
    for name in names:
        keys = [name + ".png", name, *(PurePosixPath(name).with_suffix(suffix).as_posix() for suffix in SUFFIXES)]
        keys = list(dict.fromkeys(_plain_suffix(PurePosixPath(key)) for key in keys))
        exact = [folder / f"{name}.png"] if (folder / f"{name}.png") in pictures else []
        fitting = exact or [path for key in keys for path in by_name.get(key, [])]
        if len(fitting) > 1:
            raise ReconError(f"{root}: image {name} has several masks: {', '.join(map(str, fitting))}; expected one")
        found.append(fitting[0] if fitting else None)
    if pictures and not any(found):
        stem = PurePosixPath(names[0]).with_suffix("").as_posix()
        expected = ", ".join(dict.fromkeys([f"masks/{names[0]}.png", names[0], f"{stem}.png"]))
        raise ReconError(
            f"{root}: masks/ holds {len(pictures)} pictures, such as {pictures[0].relative_to(folder)}, but none is "
            f"called like a photograph; expected {expected}"
        )
    return found


def _plain_suffix(path: PurePath) -> str:
    """The name with suffixes of pictures in lower case: their case is no matter."""
    stem, suffix = path.with_suffix(""), path.suffix
    if stem.suffix.lower() in SUFFIXES:
        stem = stem.with_suffix(stem.suffix.lower())
    return stem.as_posix() + suffix.lower()


def _lens(
    camera: Any, where: str
) -> tuple[Float[np.ndarray, "3 3"], tuple[int, int], Float[np.ndarray, " k"] | None, bool]:
    """Intrinsics, size and distortion, and whether that is a fisheye's, as `Posed` has them."""
    names = MODELS.get(camera.model_name)
    if names is None:
        raise ReconError(
            f"{where}: the camera model {camera.model_name} is not known; expected one of {', '.join(MODELS)}: "
            "undistort the photographs first (`colmap image_undistorter`)"
        )
    values = np.asarray(camera.params, np.float64)
    if len(values) != len(names) or not np.isfinite(values).all():
        raise ReconError(f"{where}: the camera must have the finite parameters {', '.join(names)}")
    lens = dict(zip(names, values, strict=True))
    focal = lens.get("fx", lens.get("f", 0.0)), lens.get("fy", lens.get("f", 0.0))
    if min(focal) <= 0:
        raise ReconError(f"{where}: the camera's focal lengths must be positive")
    matrix = np.array([[focal[0], 0, lens["cx"]], [0, focal[1], lens["cy"]], [0, 0, 1]])
    fisheye = "FISHEYE" in camera.model_name
    coefficients = np.array([lens.get(key, 0.0) for key in (FISHEYE if fisheye else DISTORTION)])
    return matrix, (camera.height, camera.width), coefficients if fisheye or coefficients.any() else None, fisheye
