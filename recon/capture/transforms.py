"""Photographs with known cameras: `transforms.json` in the nerfstudio and Blender convention.

Camera-to-world matrices have OpenGL axes (x right, y up, z backward) unless the file says
`"camera_convention": "opencv"`. Intrinsics stand at the top or in each frame: `fl_x fl_y cx cy w h`
in pixels with the centre of the first pixel at (0.5, 0.5), or `camera_angle_x` in radians. A flash that
is not at the lens has a `flash_offset` from the camera's centre, along the camera's axes.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from recon.capture.photographs import Photo, common_masks, equal_sizes, known_pixels, undistorted, unit_frame
from recon.capture.poses import poses_in_unit_frame, rigid_pose
from recon.capture.provenance import provenance
from recon.errors import ReconError
from recon.images.photograph import SUFFIXES, ColorSpace, read_mask, read_picture
from recon.views import Frame, Views

OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0])

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


def views_from_transforms(
    path: Path, set_name: str, like: Frame | None = None, color_space: ColorSpace | None = None
) -> Views:
    """The viewpoint set of a `transforms.json`, recentred and scaled into the unit sphere.

    The unit sphere comes from the masks, else from where the cameras look; pictures of an object
    before pure black count as masks for that. `like`: take unit frame and radiance scale from there.
    `color_space`: what pictures are, where the file does not say it.

    Raises:
        ReconError: the file is no such JSON; a picture is missing, broken, not finite or of another
            size; a matrix is no rotation; a mask is empty; the object's place cannot be told.
    """
    transforms = read_transforms(path)
    if color_space is not None:
        if transforms.color_space not in (None, color_space):
            raise ReconError(f"{path}: 'color_space' is {transforms.color_space}, but --color-space is {color_space}")
        transforms = transforms.model_copy(update={"color_space": color_space})
    files = [_frame_files(path.parent, entry, f"{path}: frame {i}") for i, entry in enumerate(transforms.frames)]
    photos = [
        _read_frame(transforms, entry, *paths, f"{path}: frame {i}")
        for i, (entry, paths) in enumerate(zip(transforms.frames, files, strict=True))
    ]
    images = equal_sizes(photos, [image for image, _ in files])
    names = [f"{path}: frame {i}" for i in range(len(photos))]
    masks, known = common_masks(photos, names, "has no 'mask_path'"), known_pixels(photos, names)
    peak = float(images.max())
    if peak <= 0:
        raise ReconError(f"{path}: all pictures are black")
    poses = np.stack([photo.pose for photo in photos])
    intrinsics = np.stack([photo.intrinsics for photo in photos])
    if like is None:
        world_from_unit, framed_by = unit_frame(images, masks, poses, intrinsics, str(path), known=known)
    else:
        world_from_unit, framed_by, peak = like.world_from_unit, "like", like.radiance_scale
    settings = transforms.model_dump(include={"color_space", "camera_convention"}) | {"framed_by": framed_by}
    inputs = [path, *(file for pair in files for file in pair if file is not None)]
    return Views(
        images=images / np.float32(peak),
        masks=None if masks is None else masks.astype(np.uint8) * 255,
        known=None if known is None else known.astype(np.uint8) * 255,
        camera_to_world=poses_in_unit_frame(poses, world_from_unit),
        intrinsics=intrinsics,
        radiance_scale=peak,
        world_from_unit=world_from_unit,
        light_position=_flashes(transforms, poses, world_from_unit),
        metadata=provenance(set_name, path, inputs, settings, ["OpenEXR", "pillow", "opencv-python-headless"]),
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
    lens = _lens(transforms, entry)
    if (lens["w"] or width, lens["h"] or height) != (width, height):
        raise ReconError(f"{where}: {image} has {width}x{height} pixels, expected 'w' x 'h' {lens['w']}x{lens['h']}")
    intrinsics = _intrinsics(lens, height, width, where)
    outline = None if mask is None else read_mask(mask)
    if outline is not None and outline.shape != (height, width):
        found = f"{outline.shape[1]}x{outline.shape[0]}"
        raise ReconError(f"{where}: {mask} has {found} pixels, expected the image's {width}x{height}")
    photo = Photo(picture, outline, _pose(transforms, entry, where), intrinsics)
    coefficients = _distortion(lens, where)
    return undistorted(photo, coefficients) if coefficients.any() else photo


def _lens(transforms: Transforms, entry: FrameEntry) -> dict[str, Any]:
    """The frame's own values, and the file's where it has none."""
    return transforms.model_dump(include=set(Lens.model_fields)) | entry.model_dump(exclude_unset=True)


def _axes(transforms: Transforms) -> Float[np.ndarray, "3 3"]:
    return OPENCV_FROM_OPENGL if transforms.camera_convention == "opengl" else np.eye(3)


def _pose(transforms: Transforms, entry: FrameEntry, where: str) -> Float[np.ndarray, "4 4"]:
    matrix = np.array(entry.transform_matrix, np.float64)
    if len(matrix) == 4 and not np.array_equal(matrix[3], [0, 0, 0, 1]):
        raise ReconError(f"{where}: 'transform_matrix': the last row must be 0 0 0 1, got {matrix[3].tolist()}")
    rigid = rigid_pose(matrix[:3, :3], matrix[:3, 3], f"{where}: 'transform_matrix'")
    rigid[:3, :3] = rigid[:3, :3] @ _axes(transforms)
    return rigid


def _flashes(
    transforms: Transforms, poses: Float[np.ndarray, "n 4 4"], world_from_unit: Float[np.ndarray, "4 4"]
) -> Float[np.ndarray, "n 3"] | None:
    """Where the flashes are in the unit frame; None where no frame says that one is off its camera."""
    offsets = [_lens(transforms, entry)["flash_offset"] for entry in transforms.frames]
    if not any(offset and any(offset) for offset in offsets):
        return None
    local = np.array([offset or [0, 0, 0] for offset in offsets]) @ _axes(transforms)
    world = np.einsum("nij,nj->ni", poses[:, :3, :3], local) + poses[:, :3, 3]
    inverse = np.linalg.inv(world_from_unit)
    return world @ inverse[:3, :3].T + inverse[:3, 3]


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
    further = next((key for key in ("is_fisheye", "k4", "k5", "k6") if lens[key]), None)
    if further is not None:
        raise ReconError(f"{where}: '{further}' belongs to a lens that is not known; undistort the pictures first")
    return np.array([lens[key] for key in ("k1", "k2", "p1", "p2", "k3")], np.float64)
