"""Photographs with known cameras: `transforms.json` in the nerfstudio and Blender convention.

Camera-to-world matrices have OpenGL axes (x right, y up, z backward) unless the file says
`"camera_convention": "opencv"`. Intrinsics stand at the top or in each frame: `fl_x fl_y cx cy w h`
in pixels with the centre of the first pixel at (0.5, 0.5), or `camera_angle_x` in radians. A flash that
is not at the lens has a `flash_offset` from the camera's centre, along the camera's axes.
"""

import difflib
import json
import os
import posixpath
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from recon.capture.framing import NO_WISHES, Points, Wishes, framed
from recon.capture.notes import listed, merged
from recon.capture.photographs import Photo, Shot, like_picture, picture_notes, upright
from recon.capture.posed import unused_masks
from recon.capture.poses import rigid_pose, scale_note
from recon.capture.provenance import provenance
from recon.errors import ReconError
from recon.images.photograph import SUFFIXES, ColorSpace, read_mask, read_picture
from recon.images.raw import Development, development
from recon.views import Views

OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0])

PINHOLES = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")
FISHEYES = ("OPENCV_FISHEYE", "FISHEYE")
"""Values of `camera_model`."""

MOVING = ("rolling_shutter", "transform_matrix_end")
"""Keys of cameras that move while they look."""

Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Row = Annotated[list[Annotated[float, Field(strict=False)]], Field(min_length=4, max_length=4)]


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class Lens(BaseModel):
    """Intrinsics and flash as the file gives them, at the top or in a frame; unknown keys are other programs'."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    fl_x: Positive | None = None
    fl_y: Positive | None = None
    cx: Number | None = None
    cy: Number | None = None
    w: Annotated[int, Field(gt=0)] | None = None
    h: Annotated[int, Field(gt=0)] | None = None
    camera_angle_x: Annotated[float, Field(gt=0, lt=np.pi)] | None = None
    camera_angle_y: Annotated[float, Field(gt=0, lt=np.pi)] | None = None
    camera_model: str | None = None
    is_fisheye: bool = False
    ftheta_p0: Number = 0
    latlong: bool = False
    k1: Number = 0
    k2: Number = 0
    k3: Number = 0
    k4: Number = 0
    k5: Number = 0
    k6: Number = 0
    p1: Number = 0
    p2: Number = 0
    flash_offset: Annotated[list[Number], Field(min_length=3, max_length=3)] | None = None


class FrameEntry(Lens):
    """One photograph."""

    file_path: Annotated[str, Field(min_length=1)]
    mask_path: str | None = None
    transform_matrix: Annotated[list[Row], Field(min_length=3, max_length=4)]


class Transforms(Lens):
    """The file."""

    frames: Annotated[list[FrameEntry], Field(min_length=1)]
    color_space: Annotated[ColorSpace | None, BeforeValidator(_lower)] = Field(
        None, validation_alias=AliasChoices("color_space", "colour_space")
    )
    camera_convention: Annotated[Literal["opengl", "opencv"], BeforeValidator(_lower)] = "opengl"
    train_filenames: list[str] | None = None
    val_filenames: list[str] | None = None
    test_filenames: list[str] | None = None


class Listed(NamedTuple):
    """A frame of the file whose picture is there: its number, and where things lie."""

    number: int
    entry: FrameEntry
    picture: Path
    mask: Path | None

    @property
    def name(self) -> str:
        return f"frame {self.number}"


def views_from_transforms(path: Path, set_name: str, wishes: Wishes = NO_WISHES) -> Views:
    """The viewpoint set of a `transforms.json`, recentred and scaled into the unit sphere.

    The unit sphere comes from the masks, else from the points of a sparse model beside the file, from what moves, or
    from where the cameras look; pictures of an object before pure black count as masks for that.
    Where the file splits its frames, `set_name` chooses: `train`, `val` or `test`; any other name is the training set.

    Raises:
        ReconError: the file is no such JSON; no picture is there, or one is broken, not finite or of another
            size than declared; a matrix is no rotation; a mask is empty; the object's place cannot be told.
    """
    transforms = read_transforms(path)
    notes = [f"{path}: {line}" for line in odd_keys(_json(path))]
    if wishes.color_space is not None:
        if transforms.color_space not in (None, wishes.color_space):
            raise ReconError(
                f"{path}: 'color_space' is {transforms.color_space}, but --color-space is {wishes.color_space}"
            )
        transforms = transforms.model_copy(update={"color_space": wishes.color_space})
    frames = _listed_frames(path, transforms, set_name, notes)
    how = development(frame.picture for frame in frames)
    shots = [_shot(transforms, frame, path, how, notes) for frame in frames]
    points = _points_beside(path, transforms, frames, notes)
    found = framed(shots, "has no 'mask_path'", str(path), wishes, points)
    shown = [frames[i] for i in found.shown]
    notes += [*_picture_notes(path, transforms, shown, found.photos), *found.notes]
    if found.masks is None and (folder := unused_masks(path.parent)) is not None:
        notes.append(f"{path}: no frame has a 'mask_path', though {folder} holds pictures: no masks are taken")
    settings = transforms.model_dump(include={"color_space", "camera_convention"}) | found.settings
    inputs = [path, *(file for frame in frames for file in (frame.picture, frame.mask) if file is not None)]
    packages = ["OpenEXR", "pillow", "opencv-python-headless"]
    flashes = _flashes(transforms, [frame.entry for frame in shown], found.poses, found.world_from_unit)
    return found.views(provenance(set_name, path, inputs, settings, packages, merged(notes)), flashes)


def _points_beside(path: Path, transforms: Transforms, frames: list[Listed], notes: list[str]) -> Points | None:
    """The points of a sparse model of COLMAP in the file's folder, carried to the file's frame; None where there is
    none, or where its cameras do not stand like the file's."""
    from recon.capture.colmap import find_project
    from recon.capture.sparse_points import points_in_frame

    project = find_project(path.parent)
    if project is None:
        return None
    poses = np.stack([_pose(transforms, frame.entry, f"{path}: {frame.name}") for frame in frames])
    points, line = points_in_frame(project, [frame.picture for frame in frames], poses)
    notes.append(f"{path}: {line}")
    return points


def read_transforms(path: Path) -> Transforms:
    """Parse and validate the JSON, without the pictures."""
    try:
        return Transforms.model_validate(_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        shown = repr(first["input"])
        got = f", got {shown}" if len(shown) < 60 and first["type"] != "missing" else ""
        raise ReconError(f"{path}: {key}: {first['msg'][0].lower()}{first['msg'][1:]}{got}") from None


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_once)
    except OSError as error:
        raise ReconError(f"{path}: cannot be read: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ReconError(f"{path}: not JSON: {error}") from None
    except _TwiceError as error:
        raise ReconError(f"{path}: the key '{error}' is there twice in one mapping") from None
    except RecursionError:
        raise ReconError(f"{path}: not JSON of this kind: nested too deep") from None


class _TwiceError(Exception):
    """A key that JSON's readers would silently let replace another."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1))
    return found


def transforms_files(path: Path) -> list[Path]:
    """The pictures and masks that the file lists, as far as they are there."""
    transforms = read_transforms(path)
    found = [(_search(path.parent, e.file_path), _search(path.parent, e.mask_path or "")) for e in transforms.frames]
    return [file for frame in found for files in frame for file in files[:1]]


def odd_keys(tree: Any) -> list[str]:
    """A line for each key that means nothing here, but looks as if it was to mean something."""
    known = {**Transforms.model_fields, **FrameEntry.model_fields, "colour_space": None}
    given = dict.fromkeys(key for part in [tree, *tree["frames"]] for key in part)
    lines = []
    for key in given:
        near = difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.85) if len(key) > 4 else []
        if key not in known and near:
            lines.append(f"the key '{key}' means nothing here; is '{near[0]}' meant?")
    lines += [
        f"'{key}' is not undone: the poses are taken to hold for whole pictures"
        for key in MOVING
        if any(np.any(part.get(key)) for part in [tree, *tree["frames"]] if isinstance(part.get(key), list))
    ]
    return lines


def split_frames(transforms: Transforms, set_name: str, path: Path, notes: list[str]) -> list[int]:
    """Numbers of the frames of the set `set_name`, where the file says which frame is in which; else all of them."""
    lists = {name: getattr(transforms, f"{name}_filenames") for name in ("train", "val", "test")}
    declared = {name: names for name, names in lists.items() if names is not None}
    if not declared:
        return list(range(len(transforms.frames)))
    numbers = {_plain(entry.file_path): i for i, entry in enumerate(transforms.frames)}
    bare = {PurePosixPath(name).with_suffix("").as_posix(): i for name, i in numbers.items()}
    members: dict[str, list[int]] = {}
    for split, names in declared.items():
        found = [numbers.get(_plain(name), bare.get(_plain(name), bare.get(_bare(name)))) for name in names]
        if None in found:
            stranger = names[found.index(None)]
            raise ReconError(f"{path}: '{split}_filenames' names {stranger}, which is no frame's 'file_path'")
        members[split] = sorted({i for i in found if i is not None})
    rest = [i for i in range(len(transforms.frames)) if not any(i in each for each in members.values())]
    asked = {"training": "train", "validation": "val", "eval": "val"}.get(set_name, set_name)
    if asked not in lists:
        others = ", ".join(f"{name} ({len(each)})" for name, each in members.items() if name != "train" and each)
        notes.append(
            f"{path}: splits its frames: taken is train ({len(members.get('train', rest))} of {len(transforms.frames)})"
            + (f"; --set-name chooses another: {others}" if others else "")
        )
        asked = "train"
    if asked not in members and asked != "train":
        raise ReconError(f"{path}: has no '{asked}_filenames', expected as it has '{next(iter(declared))}_filenames'")
    if "train" in members and rest:
        notes.append(
            f"{path}: {len(rest)} of {len(transforms.frames)} frames are in none of its lists of files, and in no set"
        )
    both = set(members.get("train", rest)) & {i for name in ("val", "test") for i in members.get(name, [])}
    if both:
        notes.append(
            f"{path}: {len(both)} of {len(transforms.frames)} frames are trained on and held back at once, "
            "by its lists of files"
        )
    chosen = members.get(asked, rest)
    if not chosen:
        raise ReconError(f"{path}: no frame is in the set '{asked}', by its lists of files")
    return chosen


def _plain(name: str) -> str:
    return posixpath.normpath(name.replace("\\", "/"))


def _bare(name: str) -> str:
    return PurePosixPath(_plain(name)).with_suffix("").as_posix()


def _listed_frames(path: Path, transforms: Transforms, set_name: str, notes: list[str]) -> list[Listed]:
    """The frames of the set whose pictures are there, with a note where some are not."""
    frames, missing, several = [], [], []
    for i in split_frames(transforms, set_name, path, notes):
        entry = transforms.frames[i]
        pictures = _search(path.parent, entry.file_path)
        if not pictures:
            missing.append(entry.file_path)
            continue
        if len(pictures) > 1:
            several.append(f"{entry.file_path}: {', '.join(picture.name for picture in pictures)}")
        masks = [] if entry.mask_path is None else _search(path.parent, entry.mask_path)
        if entry.mask_path is not None and not masks:
            raise ReconError(
                f"{path}: frame {i}: 'mask_path' {listed([entry.mask_path])}: no such file under {path.parent}"
            )
        frames.append(Listed(i, entry, pictures[0], masks[0] if masks else None))
    if not frames:
        raise ReconError(
            f"{path}: none of the {len(missing)} frames has a picture: 'file_path' {listed(missing[:1])}: "
            f"no such file under {path.parent}"
        )
    if missing:
        notes.append(
            f"{path}: {len(missing)} of {len(transforms.frames)} frames are left out, for their pictures are not "
            f"there: {listed(missing)}"
        )
    if several:
        notes.append(
            f"{path}: several files fit a 'file_path' without suffix; taken is the first of: {listed(several)}"
        )
    _check_repeated(path, frames, notes)
    return frames


def _check_repeated(path: Path, frames: list[Listed], notes: list[str]) -> None:
    first: dict[Path, Listed] = {}
    for frame in frames:
        other = first.setdefault(frame.picture, frame)
        if other is frame:
            continue
        if other.entry.transform_matrix != frame.entry.transform_matrix:
            raise ReconError(f"{path}: {other.name} and {frame.name} have one picture, {frame.picture}, but two poses")
        notes.append(f"{path}: {other.name} and {frame.name} are the same; it counts twice")
    masked: dict[Path, list[str]] = {}
    for frame in frames:
        if frame.mask is not None and first[frame.picture] is frame:
            masked.setdefault(frame.mask, []).append(frame.name)
    for mask, names in masked.items():
        if len(names) > 1:
            notes.append(f"{path}: {listed(names)}: have one mask, {mask}, though not one pose")


def _search(folder: Path, name: str) -> list[Path]:
    """The files that `name` may mean, the likeliest first: Blender's scripts leave the suffix out, and the case of a
    suffix is no matter."""
    base = folder / name.replace("\\", "/")
    try:
        if not name or base.is_file():
            return [base] if name else []
        files = {entry.name for entry in os.scandir(base.parent) if entry.is_file()}
    except (OSError, ValueError):  # a name that is too long, or holds what no name may
        return []
    if base.suffix.lower() in SUFFIXES:
        same = sorted(f for f in files if Path(f).stem == base.stem and Path(f).suffix.lower() == base.suffix.lower())
        if same:
            return [base.with_name(file) for file in same]
    found = [f for f in files if Path(f).stem == base.name and Path(f).suffix.lower() in SUFFIXES]
    return [base.with_name(f) for f in sorted(found, key=lambda f: (SUFFIXES.index(Path(f).suffix.lower()), f))]


def _shot(transforms: Transforms, frame: Listed, path: Path, how: Development | None, notes: list[str]) -> Shot:
    where = f"{path}: {frame.name}"
    return Shot(frame.picture, where, partial(_read_frame, transforms, frame, where, how, notes))


def _read_frame(transforms: Transforms, frame: Listed, where: str, how: Development | None, notes: list[str]) -> Photo:
    lens = _lens(transforms, frame.entry)
    stored = read_picture(frame.picture, transforms.color_space, how)
    picture = upright(stored, lens["w"], lens["h"])
    height, width = picture.color.shape[:2]
    if (lens["w"] or width, lens["h"] or height) != (width, height):
        expected = f"{lens['w'] or width}x{lens['h'] or height}"
        raise ReconError(f"{where}: {frame.picture} has {width}x{height} pixels, expected 'w' x 'h' {expected}")
    intrinsics = _intrinsics(transforms, frame.entry, height, width, where, notes)
    outline = None if frame.mask is None else like_picture(read_mask(frame.mask), picture, stored)
    if outline is not None and outline.shape != (height, width):
        found = f"{outline.shape[1]}x{outline.shape[0]}"
        raise ReconError(f"{where}: {frame.mask} has {found} pixels, expected the image's {width}x{height}")
    pose, (distortion, fisheye) = _pose(transforms, frame.entry, where), _distortion(lens, where)
    turned = picture is not stored
    return Photo(picture, outline, pose, intrinsics, distortion=distortion, turned=turned, fisheye=fisheye)


def _picture_notes(path: Path, transforms: Transforms, frames: list[Listed], photos: list[Photo]) -> list[str]:
    names = [frame.name for frame in frames]
    sized = all(_lens(transforms, frame.entry)["w"] and _lens(transforms, frame.entry)["h"] for frame in frames)
    notes = picture_notes(str(path), photos, names, sized)
    if transforms.color_space == "srgb":
        linear = [frame.name for frame in frames if frame.picture.suffix.lower() == ".exr"]
        if linear:
            notes.append(f"{path}: {listed(linear)}: EXR is linear, whatever 'color_space' says")
    rotations = [np.array(frame.entry.transform_matrix, np.float64)[:3, :3] for frame in frames]
    return [*notes, *scale_note(f"{path}: 'transform_matrix'", rotations, names)]


def _lens(transforms: Transforms, entry: FrameEntry) -> dict[str, Any]:
    """The frame's own values, and the file's where it has none."""
    own = entry.model_dump(include=set(Lens.model_fields), exclude_unset=True, exclude_none=True)
    return transforms.model_dump(include=set(Lens.model_fields)) | own


def _axes(transforms: Transforms) -> Float[np.ndarray, "3 3"]:
    return OPENCV_FROM_OPENGL if transforms.camera_convention == "opengl" else np.eye(3)


def _pose(transforms: Transforms, entry: FrameEntry, where: str) -> Float[np.ndarray, "4 4"]:
    matrix = np.array(entry.transform_matrix, np.float64)
    if len(matrix) == 4 and not np.array_equal(matrix[3], [0, 0, 0, 1]):
        raise ReconError(f"{where}: 'transform_matrix': the last row must be 0 0 0 1, got {matrix[3].tolist()}")
    rigid = rigid_pose(matrix[:3, :3], matrix[:3, 3], f"{where}: 'transform_matrix'", may_scale=True)
    rigid[:3, :3] = rigid[:3, :3] @ _axes(transforms)
    return rigid


def _flashes(
    transforms: Transforms,
    entries: list[FrameEntry],
    poses: Float[np.ndarray, "n 4 4"],
    world_from_unit: Float[np.ndarray, "4 4"],
) -> Float[np.ndarray, "n 3"] | None:
    """Where the flashes are in the unit frame; None where no frame says that one is off its camera."""
    offsets = [_lens(transforms, entry)["flash_offset"] for entry in entries]
    if not any(offset and any(offset) for offset in offsets):
        return None
    local = np.array([offset or [0, 0, 0] for offset in offsets]) @ _axes(transforms)
    world = np.einsum("nij,nj->ni", poses[:, :3, :3], local) + poses[:, :3, 3]
    inverse = np.linalg.inv(world_from_unit)
    return world @ inverse[:3, :3].T + inverse[:3, 3]


def _intrinsics(
    transforms: Transforms, entry: FrameEntry, height: int, width: int, where: str, notes: list[str]
) -> Float[np.ndarray, "3 3"]:
    lens = _lens(transforms, entry)
    focal_x, focal_y = _focal_lengths(transforms, entry, height, width, where, notes)
    center_x = width / 2 if lens["cx"] is None else lens["cx"]
    center_y = height / 2 if lens["cy"] is None else lens["cy"]
    return np.array([[focal_x, 0, center_x], [0, focal_y, center_y], [0, 0, 1]], np.float64)


def _focal_lengths(
    transforms: Transforms, entry: FrameEntry, height: int, width: int, where: str, notes: list[str]
) -> tuple[float, float]:
    """In pixels. Focal length and angle of view say the same thing, so either of a frame replaces either of the file;
    a frame's angle along one axis keeps the shape that the file's pixels have."""
    top_x, top_y = _given(transforms, "x", width, where, notes), _given(transforms, "y", height, where, notes)
    own_x, own_y = _given(entry, "x", width, where, notes), _given(entry, "y", height, where, notes)
    shape = top_y / top_x if top_x and top_y else 1.0
    if own_x and not own_y and entry.fl_x is None:
        own_y = own_x * shape
    if own_y and not own_x and entry.fl_y is None:
        own_x = own_y / shape
    focal_x, focal_y = own_x or top_x, own_y or top_y
    focal_x, focal_y = focal_x or focal_y, focal_y or focal_x
    if focal_x is None or focal_y is None:
        raise ReconError(f"{where}: no focal length: expected 'fl_x' or 'camera_angle_x', here or at the top")
    if bool(own_x) != bool(own_y) and not np.isclose(focal_y / focal_x, shape, rtol=0.01):
        notes.append(f"{where}: has a focal length of its own along one axis alone: its pixels are not square")
    return focal_x, focal_y


def _given(lens: Lens, axis: str, size: int, where: str, notes: list[str]) -> float | None:
    """The focal length that the file, or the frame, has itself."""
    focal, angle = getattr(lens, f"fl_{axis}"), getattr(lens, f"camera_angle_{axis}")
    if angle is None:
        return focal
    implied = float(0.5 * size / np.tan(0.5 * angle))
    if focal is not None and not np.isclose(focal, implied, rtol=0.01):
        place = where if isinstance(lens, FrameEntry) else where.rpartition(":")[0]
        notes.append(
            f"{place}: 'fl_{axis}' is {focal:.4g} pixels, but 'camera_angle_{axis}' makes {implied:.4g}: "
            f"'fl_{axis}' is taken"
        )
    return focal if focal is not None else implied


def _distortion(lens: dict[str, Any], where: str) -> tuple[Float[np.ndarray, " k"] | None, bool]:
    """OpenCV's k1 k2 p1 p2 k3, or k1 to k4 of its fisheye model, and whether it is that; None for a pinhole."""
    model = (lens["camera_model"] or "OPENCV").upper()
    if model not in (*PINHOLES, *FISHEYES):
        raise ReconError(f"{where}: 'camera_model' {model} is not known; expected OPENCV, OPENCV_FISHEYE or PINHOLE")
    fisheye = lens["is_fisheye"] or model in FISHEYES
    further = next(
        (key for key in ("k5", "k6", "ftheta_p0", "latlong", *(() if fisheye else ("k4",))) if lens[key]), None
    )
    if further is not None:
        raise ReconError(f"{where}: '{further}' belongs to a lens that is not known; undistort the pictures first")
    keys = ("k1", "k2", "k3", "k4") if fisheye else ("k1", "k2", "p1", "p2", "k3")
    coefficients = np.array([lens[key] for key in keys], np.float64)
    return coefficients if fisheye or coefficients.any() else None, fisheye
