"""Photographs of any size and lens as views of one size: a window of each, averaged by area in linear light."""

import numpy as np
from jaxtyping import Bool, Float, Float32

from recon.capture.photographs import Photo, straight_places, unfolded

ROWS = 32
"""Rows of the result that are sampled at once: what bounds the memory."""

WIDEST = np.radians(80)
"""Angle from the optical axis up to which a window is asked for."""


def square_around(
    center: Float[np.ndarray, " 3"], radius: float, pose: Float[np.ndarray, "4 4"], margin: float
) -> tuple[float, float, float] | None:
    """The smallest square, with sides along the picture's, that holds a sphere, in the plane at depth 1 before a
    camera.

    Args:
        center, radius: of the sphere, in the world; the camera must be outside.
        margin: by how much the square is larger, relative to its side.

    Returns:
        x and y of the square's middle, and its side; None where the sphere is not before the camera.
    """
    local = pose[:3, :3].T @ (center - pose[:3, 3])
    low, high = np.empty(2), np.empty(2)
    for axis in (0, 1):
        across = np.hypot(local[axis], local[2])
        middle = np.arctan2(local[axis], local[2])
        half = np.arcsin(radius / across) if across > radius else np.pi / 2
        if abs(middle) - half >= WIDEST:
            return None
        low[axis], high[axis] = np.tan(np.clip([middle - half, middle + half], -WIDEST, WIDEST))
    x, y = (low + high) / 2
    return float(x), float(y), float((high - low).max() * (1 + margin))


def square_intrinsics(square: tuple[float, float, float], size: int) -> Float[np.ndarray, "3 3"]:
    """Of the picture with `size` × `size` pixels that shows the square, as `square_around` has it, and no more."""
    x, y, side = square
    focal = size / side
    return np.array([[focal, 0, size / 2 - focal * x], [0, focal, size / 2 - focal * y], [0, 0, 1]])


def resampled(photo: Photo, intrinsics: Float[np.ndarray, "3 3"], height: int, width: int) -> Photo:
    """What a pinhole with these intrinsics would have taken from the same place, of `height` × `width` pixels.

    Each pixel is the mean of all that it covers of the photograph: of as many samples along each side as it covers
    pixels, each interpolated bilinearly; so it is exact where it covers whole pixels. A pixel is known where the
    photograph shows all of it, and object where the mask covers most of it. Beyond the border the outermost colours are
    repeated.
    """
    planes = [photo.picture.color, photo.picture.alpha, None if photo.mask is None else photo.mask.astype(np.float32)]
    taken = [None if plane is None else np.empty((height, width, *plane.shape[2:]), np.float32) for plane in planes]
    known = np.empty((height, width), bool)
    samples = max(1, int(np.ceil(np.max(np.diag(photo.intrinsics)[:2] / np.diag(intrinsics)[:2]) - 1e-6)))
    for top in range(0, height, ROWS):
        rows = slice(top, min(top + ROWS, height))
        x, y, inside = _source_places(photo, intrinsics, rows, width, samples)
        known[rows] = _blocks(inside, samples).all(axis=(1, 3))
        for plane, target in zip(planes, taken, strict=True):
            if plane is not None and target is not None:
                target[rows] = _averaged(plane, x, y, samples)
    color, alpha, share = taken
    assert color is not None
    if photo.distortion is not None:
        known &= unfolded(photo, intrinsics, height, width)
    return photo._replace(
        picture=photo.picture._replace(color=color, alpha=alpha),
        mask=None if share is None else (share > 0.5) & known,
        known=None if known.all() else known,
        intrinsics=intrinsics,
        distortion=None,
        fisheye=False,
    )


def reduced(photo: Photo, longest: int) -> Photo:
    """The photograph by the whole number of pixels a side that leaves it at least `longest` along its longer side."""
    import cv2

    factor = max(photo.size) // longest
    if factor <= 1:
        return photo
    height, width = (size // factor for size in photo.size)

    def smaller(image: Float32[np.ndarray, "h w ..."]) -> Float32[np.ndarray, "_ _ ..."]:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)

    picture, mask = photo.picture, photo.mask
    scale = np.diag([width / photo.size[1], height / photo.size[0], 1.0])
    return photo._replace(
        picture=picture._replace(
            color=smaller(picture.color), alpha=None if picture.alpha is None else smaller(picture.alpha)
        ),
        mask=None if mask is None else smaller(mask.astype(np.float32)) > 0.5,
        intrinsics=scale @ photo.intrinsics,
    )


def _source_places(
    photo: Photo, intrinsics: Float[np.ndarray, "3 3"], rows: slice, width: int, samples: int
) -> tuple[Float32[np.ndarray, "a b"], Float32[np.ndarray, "a b"], Bool[np.ndarray, "a b"]]:
    """Where the samples of some rows of the result lie in the photograph, by OpenCV's count of pixels, whose first
    centre is 0, and whether the photograph shows them."""
    asked = intrinsics.copy()
    asked[1, 2] -= rows.start
    asked[:2] *= samples
    x, y = straight_places(photo, asked, samples * (rows.stop - rows.start), samples * width)
    with np.errstate(invalid="ignore"):
        inside = (x >= -0.5) & (x <= photo.size[1] - 0.5) & (y >= -0.5) & (y <= photo.size[0] - 0.5)
    x, y = (np.nan_to_num(each, nan=0, posinf=0, neginf=0).clip(-1, 2**15) for each in (x, y))
    return x, y, inside


def _averaged(
    image: Float32[np.ndarray, "h w ..."], x: Float32[np.ndarray, "a b"], y: Float32[np.ndarray, "a b"], samples: int
) -> Float32[np.ndarray, "_ _ ..."]:
    import cv2

    taken = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cv2.resize(taken, (x.shape[1] // samples, x.shape[0] // samples), interpolation=cv2.INTER_AREA)


def _blocks(array: Bool[np.ndarray, "a b"], samples: int) -> Bool[np.ndarray, "_ s _ s"]:
    return array.reshape(array.shape[0] // samples, samples, -1, samples)
