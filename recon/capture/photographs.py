"""Photographs with known cameras, whatever file they are listed in."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32

from recon.capture.notes import listed
from recon.images.encoding import turned
from recon.images.photograph import Picture


class Photo(NamedTuple):
    """One photograph, read; pose and intrinsics as in `Views`, but in the source's frame.

    Attributes:
        known: which pixels the photograph shows; None: all.
        distortion: OpenCV's coefficients k1 k2 p1 p2 [k3 [k4 k5 k6]] of the lens that took it; None: a pinhole.
        turned: the picture was turned by its EXIF orientation.
        fisheye: `distortion` are the four coefficients of OpenCV's fisheye model.
    """

    picture: Picture
    mask: Bool[np.ndarray, "h w"] | None
    pose: Float[np.ndarray, "4 4"]
    intrinsics: Float[np.ndarray, "3 3"]
    known: Bool[np.ndarray, "h w"] | None = None
    distortion: Float[np.ndarray, " k"] | None = None
    turned: bool = False
    fisheye: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.picture.color.shape[0], self.picture.color.shape[1]


class Shot(NamedTuple):
    """A photograph that is still a file: photographs of cameras today do not all go into memory together.

    Attributes:
        path: of the picture.
        name: what errors call it.
        read: reads it, and its mask where it has one.
    """

    path: Path
    name: str
    read: Callable[[], Photo]


def undistorted(photo: Photo) -> Photo:
    """The photograph that a lens without distortion would have taken, with the same intrinsics.

    What such a lens would show beyond the photograph's border is not known; there the outermost colours are repeated.
    """
    import cv2

    if photo.distortion is None:
        return photo
    height, width = photo.size
    x, y = straight_places(photo, photo.intrinsics, height, width)
    with np.errstate(invalid="ignore"):
        known = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    known &= unfolded(photo, photo.intrinsics, height, width)
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
        distortion=None,
        fisheye=False,
    )


def straight_places(
    photo: Photo, intrinsics: Float[np.ndarray, "3 3"], height: int, width: int
) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """Where in the photograph, by OpenCV's count whose first pixel centre is 0, a pinhole's pixels come from."""
    import cv2

    given, asked = photo.intrinsics.copy(), intrinsics.copy()
    for matrix in (given, asked):
        matrix[:2, 2] -= 0.5
    coefficients = np.zeros(4) if photo.distortion is None else photo.distortion
    make = cv2.fisheye.initUndistortRectifyMap if photo.fisheye else cv2.initUndistortRectifyMap
    x, y = make(given, coefficients, np.eye(3), asked, (width, height), cv2.CV_32FC1)
    return x, y


def unfolded(photo: Photo, intrinsics: Float[np.ndarray, "3 3"], height: int, width: int) -> Bool[np.ndarray, "h w"]:
    """Of a straightened picture, the pixels that lie where the photograph's polynomial describes a lens."""
    assert photo.distortion is not None
    fold = _fisheye_fold(photo.distortion) if photo.fisheye else _fold(intrinsics, photo.distortion, height, width)
    return _radius(intrinsics, height, width) < fold


def _fisheye_fold(coefficients: Float[np.ndarray, " 4"]) -> float:
    """The radius from which on θ (1 + k1 θ² + k2 θ⁴ + k3 θ⁶ + k4 θ⁸) leads back inwards."""
    angle = np.linspace(0, np.pi / 2, 4096)
    bent = angle * (1 + sum(k * angle ** (2 * i) for i, k in enumerate(coefficients, start=1)))
    back = ~(np.diff(bent) > 0)
    return float(np.tan(angle[back.argmax()])) if back.any() else np.inf


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


def picture_notes(where: str, photos: list[Photo], names: list[str], sized: bool) -> list[str]:
    """What was taken for granted of the pictures, a line each.

    Args:
        sized: whether the source says how large the pictures are.
    """
    notes, pictures = [], [photo.picture for photo in photos]
    upright = [name for name, photo in zip(names, photos, strict=True) if photo.turned]
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
