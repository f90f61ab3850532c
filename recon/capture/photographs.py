"""Photographs with known cameras, whatever file they are listed in."""

from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32

from recon.capture.normalise import frame_from_cameras, frame_from_masks, frame_from_points, masks_from_black
from recon.capture.notes import listed
from recon.capture.poses import poses_in_unit_frame
from recon.errors import ReconError
from recon.images.encoding import turned
from recon.images.photograph import Picture
from recon.views import Frame, Views


class Photo(NamedTuple):
    """One photograph, read; pose and intrinsics as in `Views`, but in the source's frame.

    `known`: which pixels the photograph shows; None: all.
    """

    picture: Picture
    mask: Bool[np.ndarray, "h w"] | None
    pose: Float[np.ndarray, "4 4"]
    intrinsics: Float[np.ndarray, "3 3"]
    known: Bool[np.ndarray, "h w"] | None = None


def undistorted(photo: Photo, coefficients: Float[np.ndarray, " k"]) -> Photo:
    """The photograph that a lens without distortion would have taken, with the same intrinsics.

    `coefficients` are those of OpenCV: k1 k2 p1 p2 [k3 [k4 k5 k6]]. What such a lens would show beyond the
    photograph's border is not known; there the outermost colours are repeated.
    """
    import cv2

    height, width = photo.picture.color.shape[:2]
    matrix = photo.intrinsics.copy()
    matrix[:2, 2] -= 0.5  # OpenCV's pixel centres are integers
    x, y = cv2.initUndistortRectifyMap(matrix, coefficients, None, matrix, (width, height), cv2.CV_32FC1)
    with np.errstate(invalid="ignore"):
        known = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    known &= _radius(photo.intrinsics, height, width) < _fold(photo.intrinsics, coefficients, height, width)
    x, y = (np.nan_to_num(each, nan=0, posinf=0, neginf=0).astype(np.float32) for each in (x, y))

    def straighten(image: Float32[np.ndarray, "h w ..."]) -> Float32[np.ndarray, "h w ..."]:
        return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    alpha, mask = photo.picture.alpha, photo.mask
    return photo._replace(
        picture=photo.picture._replace(
            color=straighten(photo.picture.color), alpha=None if alpha is None else straighten(alpha)
        ),
        mask=None if mask is None else (straighten(mask.astype(np.float32)) > 0.5) & known,
        known=None if known.all() else known,
    )


def _radius(intrinsics: Float[np.ndarray, "3 3"], height: int, width: int) -> Float[np.ndarray, "h w"]:
    """Of every pixel's ray: distance from the optical axis at depth 1."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    return np.hypot(
        (columns - intrinsics[0, 2]) / intrinsics[0, 0],
        (rows - intrinsics[1, 2]) / intrinsics[1, 1],
    )


def _fold(
    intrinsics: Float[np.ndarray, "3 3"], coefficients: Float[np.ndarray, " k"], height: int, width: int
) -> float:
    """The radius from which on the polynomial leads back inwards: beyond it, it describes no lens."""
    k1, k2, _, _, k3, k4, k5, k6 = np.pad(coefficients, (0, 8 - len(coefficients)))
    radius = np.linspace(0, _radius(intrinsics, height, width).max() + 1e-9, 4096)
    square = radius**2
    bent = radius * (1 + square * (k1 + square * (k2 + square * k3)))
    with np.errstate(divide="ignore", invalid="ignore"):
        bent = bent / (1 + square * (k4 + square * (k5 + square * k6)))
    back = ~(np.diff(bent) > 0)
    return float(radius[back.argmax()]) if back.any() else np.inf


def upright(picture: Picture, width: int | None, height: int | None) -> Picture:
    """The picture as stored, unless only turning it by its EXIF orientation gives it the size that its camera has.

    Poses come from software that heeds EXIF or does not, and its cameras' size tells which.
    """
    rows, columns = picture.color.shape[:2]
    stored = (width or columns, height or rows) == (columns, rows)
    turns = (width or rows, height or columns) == (rows, columns)
    return picture.turned() if picture.orientation >= 5 and turns and not stored else picture


def like_picture(mask: Bool[np.ndarray, "h w"], picture: Picture, before: Picture) -> Bool[np.ndarray, "_ _"]:
    """The mask of the picture as it was `before`, turned where the picture was turned."""
    shape = picture.color.shape[:2]
    was_turned = picture.orientation != before.orientation and mask.shape != shape
    return turned(mask, before.orientation) if was_turned and mask.shape == before.color.shape[:2] else mask


def picture_notes(where: str, pictures: list[Picture], names: list[str], upright: list[str], sized: bool) -> list[str]:
    """What was taken for granted of the pictures, a line each.

    Args:
        upright: names of the pictures that were turned.
        sized: whether the source says how large the pictures are.
    """
    notes = []
    if assumed := [name for name, picture in zip(names, pictures, strict=True) if picture.assumed]:
        notes.append(
            f"{where}: {listed(assumed)}: nothing says how linear these integers of 16 bits are: taken as sRGB; "
            "say 'color_space' or --color-space if that is wrong"
        )
    if upright:
        notes.append(
            f"{where}: {listed(upright)}: turned by the EXIF orientation, as the camera's width and height ask"
        )
    if kept := [name for name, picture in zip(names, pictures, strict=True) if picture.orientation != 1]:
        advice = "" if sized else "; if the poses belong to upright pictures, say 'w' and 'h'"
        notes.append(
            f"{where}: {listed(kept)}: has an EXIF orientation, but the pixels are taken as stored, "
            f"as COLMAP and nerfstudio take them{advice}"
        )
    return notes


def known_pixels(photos: list[Photo], names: list[str]) -> Bool[np.ndarray, "n h w"] | None:
    """Which pixels the photographs show; None where all are. `names`: what errors call the photographs."""
    for photo, name in zip(photos, names, strict=True):
        if photo.known is not None and not photo.known.any():
            raise ReconError(f"{name}: undoing the lens's distortion leaves no pixel: are its coefficients right?")
    if all(photo.known is None for photo in photos):
        return None
    return np.stack([np.ones(p.picture.color.shape[:2], bool) if p.known is None else p.known for p in photos])


def equal_sizes(photos: list[Photo], paths: list[Path]) -> Float32[np.ndarray, "n h w 3"]:
    """All pictures as one array; raises `ReconError` where one has another size."""
    height, width = photos[0].picture.color.shape[:2]
    for photo, path in zip(photos, paths, strict=True):
        rows, columns = photo.picture.color.shape[:2]
        if (rows, columns) != (height, width):
            raise ReconError(f"{path}: has {columns}x{rows} pixels, expected {width}x{height} as {paths[0]} has")
    return np.stack([photo.picture.color for photo in photos])


def common_masks(photos: list[Photo], names: list[str], missing: str) -> Bool[np.ndarray, "n h w"] | None:
    """Masks of the files, else alpha; None where there are none. Alpha that is full throughout is no mask.

    Args:
        names: what errors call the photographs.
        missing: what is said of a photograph without a mask among others that have one.

    Raises:
        ReconError: some have masks, or opacity that is not full, and some not; or a mask is empty.
    """
    given = [photo.mask is not None for photo in photos]
    if any(given) and not all(given):
        raise ReconError(f"{names[given.index(False)]} {missing}, but others have one")
    if all(given):
        masks = [photo.mask for photo in photos if photo.mask is not None]
    else:
        opaque = [_opaque(photo) for photo in photos]
        if all(
            mask is None or mask.all() or (photo.known is not None and mask[photo.known].all())
            for mask, photo in zip(opaque, photos, strict=True)
        ):
            return None
        without = next((name for name, mask in zip(names, opaque, strict=True) if mask is None), None)
        if without is not None:
            raise ReconError(f"{without} has no opacity, but others have one, which is their mask")
        masks = [mask for mask in opaque if mask is not None]
    for name, mask in zip(names, masks, strict=True):
        if not mask.any():
            raise ReconError(f"{name}: the mask is empty")
    return np.stack(masks)


class Framed(NamedTuple):
    """Photographs of one size with the unit frame and radiance scale that they get.

    Attributes:
        images: linear radiance as the files have it.
        poses: camera-to-world in the source's frame.
        framed_by: what `world_from_unit` comes from.
    """

    images: Float32[np.ndarray, "n h w 3"]
    masks: Bool[np.ndarray, "n h w"] | None
    known: Bool[np.ndarray, "n h w"] | None
    poses: Float[np.ndarray, "n 4 4"]
    intrinsics: Float[np.ndarray, "n 3 3"]
    world_from_unit: Float[np.ndarray, "4 4"]
    radiance_scale: float
    framed_by: str

    def views(self, metadata: dict[str, Any], light_position: Float[np.ndarray, "n 3"] | None = None) -> Views:
        """The viewpoint set; `light_position` in the unit frame."""
        return Views(
            images=self.images / np.float32(self.radiance_scale),
            masks=None if self.masks is None else self.masks.astype(np.uint8) * 255,
            known=None if self.known is None else self.known.astype(np.uint8) * 255,
            camera_to_world=poses_in_unit_frame(self.poses, self.world_from_unit),
            intrinsics=self.intrinsics,
            radiance_scale=self.radiance_scale,
            world_from_unit=self.world_from_unit,
            light_position=light_position,
            metadata=metadata,
        )


def framed(
    photos: list[Photo],
    paths: list[Path],
    names: list[str],
    missing: str,
    source: str,
    like: Frame | None = None,
    points: Float[np.ndarray, "p 3"] | None = None,
) -> Framed:
    """The photographs in a common frame: that of `like`, or else as `unit_frame` finds it.

    Args:
        paths: of the pictures.
        names, missing: as `common_masks` takes them.
        source: what errors call all of them together.

    Raises:
        ReconError: sizes differ; some have masks and others not; all is black; the object's place cannot be told.
    """
    images = equal_sizes(photos, paths)
    masks, known = common_masks(photos, names, missing), known_pixels(photos, names)
    peak = float(images.max())
    if peak <= 0:
        raise ReconError(f"{source}: all pictures are black")
    poses, intrinsics = (np.stack([getattr(photo, key) for photo in photos]) for key in ("pose", "intrinsics"))
    if like is None:
        world_from_unit, framed_by = unit_frame(images, masks, poses, intrinsics, source, points, known)
    else:
        world_from_unit, framed_by, peak = like.world_from_unit, "like", like.radiance_scale
    return Framed(images, masks, known, poses, intrinsics, world_from_unit, peak, framed_by)


def _opaque(photo: Photo) -> Bool[np.ndarray, "h w"] | None:
    if photo.picture.alpha is None:
        return None
    opaque = photo.picture.alpha > 0.5
    return opaque if photo.known is None else opaque & photo.known


def unit_frame(
    images: Float32[np.ndarray, "n h w 3"],
    masks: Bool[np.ndarray, "n h w"] | None,
    poses: Float[np.ndarray, "n 4 4"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    source: str,
    points: Float[np.ndarray, "p 3"] | None = None,
    known: Bool[np.ndarray, "n h w"] | None = None,
) -> tuple[Float[np.ndarray, "4 4"], str]:
    """`world_from_unit`, and what it comes from: the masks, or pictures of an object before black; else
    `points` on surfaces; else where the cameras look. Pixels that are not `known` say nothing.

    Raises:
        ReconError: the object's place cannot be told.
    """
    height, width = images.shape[1:3]
    if masks is not None and not (masks if known is None else masks | ~known).all():
        return frame_from_masks(poses, intrinsics, masks, source, known), "masks"
    silhouettes = None if masks is not None else masks_from_black(images, known)
    if silhouettes is not None:
        with suppress(ReconError):  # a guess that fails is no fault of the input
            return frame_from_masks(poses, intrinsics, silhouettes, source, known), "black background"
    sight = frame_from_cameras(poses, intrinsics, height, width, source)
    frame = None if points is None else frame_from_points(points, sight)
    return (sight, "cameras") if frame is None else (frame, "points")
