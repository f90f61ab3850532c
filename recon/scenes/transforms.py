"""Photographs with known cameras: `transforms.json` in the nerfstudio and Blender convention.

Camera-to-world matrices have OpenGL axes (x right, y up, z backward) unless the file says
`"camera_convention": "opencv"`. Intrinsics stand at the top or in each frame: `fl_x fl_y cx cy w h`
in pixels with the centre of the first pixel at (0.5, 0.5), or `camera_angle_x` in radians.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from recon.errors import ReconError
from recon.scenes.images import SUFFIXES, ColorSpace, Picture, read_mask, read_picture
from recon.scenes.normalise import frame_from_cameras, frame_from_masks, masks_from_black
from recon.scenes.poses import poses_in_unit_frame, rigid_pose
from recon.scenes.provenance import provenance
from recon.views import Frame, Views

OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0])

Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Row = Annotated[list[Annotated[float, Field(strict=False)]], Field(min_length=4, max_length=4)]


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class Lens(BaseModel):
    """Intrinsics as the file gives them, at the top or in a frame; unknown keys are other programs'."""

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
    k1: Number = 0
    k2: Number = 0
    k3: Number = 0
    k4: Number = 0
    p1: Number = 0
    p2: Number = 0


class FrameEntry(Lens):
    """One photograph."""

    file_path: Annotated[str, Field(min_length=1)]
    mask_path: str | None = None
    transform_matrix: Annotated[list[Row], Field(min_length=3, max_length=4)]


class Transforms(Lens):
    """The file."""

    frames: Annotated[list[FrameEntry], Field(min_length=1)]
    color_space: Annotated[ColorSpace, BeforeValidator(_lower)] = Field(
        "srgb", validation_alias=AliasChoices("color_space", "colour_space")
    )
    camera_convention: Annotated[Literal["opengl", "opencv"], BeforeValidator(_lower)] = "opengl"


class Photo(NamedTuple):
    """One frame, read."""

    picture: Picture
    mask: Bool[np.ndarray, "h w"] | None
    pose: Float[np.ndarray, "4 4"]
    intrinsics: Float[np.ndarray, "3 3"]


def views_from_transforms(path: Path, set_name: str, like: Frame | None = None) -> Views:
    """The viewpoint set of a `transforms.json`, recentred and scaled into the unit sphere.

    The unit sphere comes from the masks, else from where the cameras look; pictures of an object
    before pure black count as masks for that. `like`: take unit frame and radiance scale from there.

    Raises:
        ReconError: the file is no such JSON; a picture is missing, broken, not finite or of another
            size; a matrix is no rotation; a mask is empty; the object's place cannot be told.
    """
    transforms = read_transforms(path)
    files = [_frame_files(path.parent, entry, f"{path}: frame {i}") for i, entry in enumerate(transforms.frames)]
    photos = [
        _read_frame(transforms, entry, *paths, f"{path}: frame {i}")
        for i, (entry, paths) in enumerate(zip(transforms.frames, files, strict=True))
    ]
    images = np.stack(_equal_sizes(photos, [image for image, _ in files]))
    masks = _masks(photos, path)
    peak = float(images.max())
    if peak <= 0:
        raise ReconError(f"{path}: all pictures are black")
    poses = np.stack([photo.pose for photo in photos])
    intrinsics = np.stack([photo.intrinsics for photo in photos])
    if like is None:
        world_from_unit, framed_by = _unit_frame(images, masks, poses, intrinsics, str(path))
    else:
        world_from_unit, framed_by, peak = like.world_from_unit, "like", like.radiance_scale
    settings = transforms.model_dump(include={"color_space", "camera_convention"}) | {"framed_by": framed_by}
    inputs = [path, *(file for pair in files for file in pair if file is not None)]
    return Views(
        images=images / np.float32(peak),
        masks=None if masks is None else masks.astype(np.uint8) * 255,
        camera_to_world=poses_in_unit_frame(poses, world_from_unit),
        intrinsics=intrinsics,
        radiance_scale=peak,
        world_from_unit=world_from_unit,
        metadata=provenance(set_name, path, inputs, settings, ["OpenEXR", "imageio", "opencv-python-headless"]),
    )


def read_transforms(path: Path) -> Transforms:
    """Parse and validate the JSON, without the pictures."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ReconError(f"{path}: cannot be read: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ReconError(f"{path}: not JSON: {error}") from None
    try:
        return Transforms.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        shown = repr(first["input"])
        got = f", got {shown}" if len(shown) < 60 and first["type"] != "missing" else ""
        raise ReconError(f"{path}: {key}: {first['msg'][0].lower()}{first['msg'][1:]}{got}") from None


def _frame_files(folder: Path, entry: FrameEntry, where: str) -> tuple[Path, Path | None]:
    image = _find(folder, entry.file_path, where, "file_path")
    return image, None if entry.mask_path is None else _find(folder, entry.mask_path, where, "mask_path")


def _find(folder: Path, name: str, where: str, key: str) -> Path:
    """The file, with a suffix where Blender's scripts leave it out."""
    base = folder / name.replace("\\", "/")
    for candidate in (base, *(base.with_name(base.name + suffix) for suffix in SUFFIXES)):
        if candidate.is_file():
            return candidate
    raise ReconError(f"{where}: '{key}' {name}: no such file under {folder}")


def _read_frame(transforms: Transforms, entry: FrameEntry, image: Path, mask: Path | None, where: str) -> Photo:
    picture = read_picture(image, transforms.color_space)
    height, width = picture.color.shape[:2]
    lens = transforms.model_dump(include=set(Lens.model_fields)) | entry.model_dump(exclude_unset=True)
    if (lens["w"] or width, lens["h"] or height) != (width, height):
        raise ReconError(f"{where}: {image} has {width}x{height} pixels, expected 'w' x 'h' {lens['w']}x{lens['h']}")
    intrinsics = _intrinsics(lens, height, width, where)
    outline = None if mask is None else read_mask(mask)
    if outline is not None and outline.shape != (height, width):
        found = f"{outline.shape[1]}x{outline.shape[0]}"
        raise ReconError(f"{where}: {mask} has {found} pixels, expected the image's {width}x{height}")
    photo = Photo(picture, outline, _pose(transforms, entry, where), intrinsics)
    coefficients = _distortion(lens, where)
    return _undistorted(photo, coefficients) if coefficients.any() else photo


def _pose(transforms: Transforms, entry: FrameEntry, where: str) -> Float[np.ndarray, "4 4"]:
    matrix = np.array(entry.transform_matrix, np.float64)
    if len(matrix) == 4 and not np.array_equal(matrix[3], [0, 0, 0, 1]):
        raise ReconError(f"{where}: 'transform_matrix': the last row must be 0 0 0 1, got {matrix[3].tolist()}")
    axes = OPENCV_FROM_OPENGL if transforms.camera_convention == "opengl" else np.eye(3)
    rigid = rigid_pose(matrix[:3, :3], matrix[:3, 3], f"{where}: 'transform_matrix'")
    rigid[:3, :3] = rigid[:3, :3] @ axes
    return rigid


def _intrinsics(lens: dict[str, Any], height: int, width: int, where: str) -> Float[np.ndarray, "3 3"]:
    focal_x, focal_y = lens["fl_x"], lens["fl_y"]
    if focal_x is None and lens["camera_angle_x"] is not None:
        focal_x = 0.5 * width / np.tan(0.5 * lens["camera_angle_x"])
    if focal_y is None and lens["camera_angle_y"] is not None:
        focal_y = 0.5 * height / np.tan(0.5 * lens["camera_angle_y"])
    focal_x, focal_y = focal_x or focal_y, focal_y or focal_x
    if focal_x is None:
        raise ReconError(f"{where}: no focal length: expected 'fl_x' or 'camera_angle_x', here or at the top")
    center_x = width / 2 if lens["cx"] is None else lens["cx"]
    center_y = height / 2 if lens["cy"] is None else lens["cy"]
    return np.array([[focal_x, 0, center_x], [0, focal_y, center_y], [0, 0, 1]], np.float64)


def _distortion(lens: dict[str, Any], where: str) -> Float[np.ndarray, " 5"]:
    """OpenCV's k1 k2 p1 p2 k3."""
    model = lens["camera_model"] or "OPENCV"
    if model.upper() not in ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE"):
        raise ReconError(f"{where}: 'camera_model' {model} is not known; expected OPENCV or PINHOLE")
    if lens["k4"]:
        raise ReconError(f"{where}: 'k4' belongs to a fisheye lens, which is not known; undistort the pictures first")
    return np.array([lens[key] for key in ("k1", "k2", "p1", "p2", "k3")], np.float64)


def _undistorted(photo: Photo, coefficients: Float[np.ndarray, " 5"]) -> Photo:
    """The photograph that a lens without distortion would have taken, with the same intrinsics."""
    import cv2

    matrix = photo.intrinsics.copy()
    matrix[:2, 2] -= 0.5  # OpenCV's pixel centres are integers

    def straighten(image: Float32[np.ndarray, "h w ..."]) -> Float32[np.ndarray, "h w ..."]:
        return cv2.undistort(image, matrix, coefficients)

    alpha, mask = photo.picture.alpha, photo.mask
    return photo._replace(
        picture=Picture(straighten(photo.picture.color), None if alpha is None else straighten(alpha)),
        mask=None if mask is None else straighten(mask.astype(np.float32)) > 0.5,
    )


def _equal_sizes(photos: list[Photo], paths: list[Path]) -> list[Float32[np.ndarray, "h w 3"]]:
    height, width = photos[0].picture.color.shape[:2]
    for photo, path in zip(photos, paths, strict=True):
        rows, columns = photo.picture.color.shape[:2]
        if (rows, columns) != (height, width):
            raise ReconError(f"{path}: has {columns}x{rows} pixels, expected {width}x{height} as {paths[0]} has")
    return [photo.picture.color for photo in photos]


def _masks(photos: list[Photo], path: Path) -> Bool[np.ndarray, "n h w"] | None:
    """Masks of the files, else alpha; None where there are none. Alpha that is full throughout is no mask."""
    given = [photo.mask is not None for photo in photos]
    if any(given) and not all(given):
        raise ReconError(f"{path}: frame {given.index(False)} has no 'mask_path', but others have one")
    if all(given):
        masks = [photo.mask for photo in photos if photo.mask is not None]
    else:
        masks = [photo.picture.alpha > 0.5 for photo in photos if photo.picture.alpha is not None]
        if len(masks) < len(photos) or all(mask.all() for mask in masks):
            return None
    for i, mask in enumerate(masks):
        if not mask.any():
            raise ReconError(f"{path}: frame {i}: the mask is empty")
    return np.stack(masks)


def _unit_frame(
    images: Float32[np.ndarray, "n h w 3"],
    masks: Bool[np.ndarray, "n h w"] | None,
    poses: Float[np.ndarray, "n 4 4"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    source: str,
) -> tuple[Float[np.ndarray, "4 4"], str]:
    """`world_from_unit` and what it comes from."""
    height, width = images.shape[1:3]
    if masks is not None:
        if all(mask.all() for mask in masks):
            return frame_from_cameras(poses, intrinsics, height, width, source), "cameras"
        return frame_from_masks(poses, intrinsics, masks, source), "masks"
    silhouettes = masks_from_black(images)
    if silhouettes is not None:
        with suppress(ReconError):  # a guess that fails is no fault of the input
            return frame_from_masks(poses, intrinsics, silhouettes, source), "black background"
    return frame_from_cameras(poses, intrinsics, height, width, source), "cameras"
