"""Photographs with known cameras, whatever file they are listed in."""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32

from recon.capture.normalise import frame_from_cameras, frame_from_masks, frame_from_points, masks_from_black
from recon.errors import ReconError
from recon.images.photograph import Picture


class Photo(NamedTuple):
    """One photograph, read; pose and intrinsics as in `Views`, but in the source's frame."""

    picture: Picture
    mask: Bool[np.ndarray, "h w"] | None
    pose: Float[np.ndarray, "4 4"]
    intrinsics: Float[np.ndarray, "3 3"]


def undistorted(photo: Photo, coefficients: Float[np.ndarray, " k"]) -> Photo:
    """The photograph that a lens without distortion would have taken, with the same intrinsics.

    `coefficients` are those of OpenCV: k1 k2 p1 p2 [k3 [k4 k5 k6]].
    """
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
        ReconError: some have masks and some not, or a mask is empty.
    """
    given = [photo.mask is not None for photo in photos]
    if any(given) and not all(given):
        raise ReconError(f"{names[given.index(False)]} {missing}, but others have one")
    if all(given):
        masks = [photo.mask for photo in photos if photo.mask is not None]
    else:
        masks = [photo.picture.alpha > 0.5 for photo in photos if photo.picture.alpha is not None]
        if len(masks) < len(photos) or all(mask.all() for mask in masks):
            return None
    for name, mask in zip(names, masks, strict=True):
        if not mask.any():
            raise ReconError(f"{name}: the mask is empty")
    return np.stack(masks)


def unit_frame(
    images: Float32[np.ndarray, "n h w 3"],
    masks: Bool[np.ndarray, "n h w"] | None,
    poses: Float[np.ndarray, "n 4 4"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    source: str,
    points: Float[np.ndarray, "p 3"] | None = None,
) -> tuple[Float[np.ndarray, "4 4"], str]:
    """`world_from_unit`, and what it comes from: the masks, or pictures of an object before black; else
    `points` on surfaces; else where the cameras look.

    Raises:
        ReconError: the object's place cannot be told.
    """
    height, width = images.shape[1:3]
    if masks is not None and not all(mask.all() for mask in masks):
        return frame_from_masks(poses, intrinsics, masks, source), "masks"
    silhouettes = None if masks is not None else masks_from_black(images)
    if silhouettes is not None:
        with suppress(ReconError):  # a guess that fails is no fault of the input
            return frame_from_masks(poses, intrinsics, silhouettes, source), "black background"
    sight = frame_from_cameras(poses, intrinsics, height, width, source)
    frame = None if points is None else frame_from_points(points, sight)
    return (sight, "cameras") if frame is None else (frame, "points")
