"""Scale and up from a printed ArUco marker of known size that lies beside the object.

Structure from motion knows no unit. OpenCV finds the marker in the photographs, its corners become points where the
rays of all views that see it meet, and the length of its sides tells how long a unit is. It lies on the table, so its
normal says which way is up.
"""

from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Float32

from recon.capture.normalise import nearest_point
from recon.capture.notes import listed
from recon.capture.photographs import Photo
from recon.errors import ReconError

DICTIONARIES = {
    name: cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, f"DICT_{name}"))
    for name in ("4X4_1000", "5X5_1000", "6X6_1000", "7X7_1000", "ARUCO_ORIGINAL", "APRILTAG_36h11")
}
"""All that OpenCV prints: a smaller one of a kind is the beginning of the largest."""

LARGEST = 3000
"""Pixels of a photograph's longer side in which a marker is looked for: what cameras resolve, roughly."""

NARROW = 2.0
"""Degrees between the rays of a corner that differ most, from which on it can be placed."""

STRAY = 3.0
"""How many times as far as usual the ray of a view passes a corner to be left out, at least `TOLERANCE`."""

TOLERANCE = 1e-3
"""Angle, in radians, between a corner and a ray to it: a pixel or so."""

UNEVEN = 0.05
"""Share by which the sides of a marker may differ from their mean."""


class Sighting(NamedTuple):
    """A marker in a photograph: which, the photograph's name, and rays to its corners, clockwise from its top left.

    Rays are unit directions in the source's frame, from `origin`.
    """

    marker: str
    name: str
    origin: Float[np.ndarray, " 3"]
    rays: Float[np.ndarray, "4 3"]


class Scale(NamedTuple):
    """What a marker tells.

    Attributes:
        metres: how long a unit of the source's frame is.
        up: the marker's normal in the source's frame, towards the cameras.
        marker: which one it is.
        views: how many photographs show it.
        unevenness: largest difference of a side from their mean, relative to it: how sure that is.
    """

    metres: float
    up: tuple[float, float, float]
    marker: str
    views: int
    unevenness: float

    def as_dict(self) -> dict[str, Any]:
        return self._asdict() | {"up": list(self.up)}


class MarkerFinder:
    """Looks for a marker of `millimetres` a side in photographs, one after another."""

    def __init__(self, millimetres: float) -> None:
        self._side = millimetres / 1000
        self._known: str | None = None
        self._sightings: list[Sighting] = []
        self._looked = 0

    def look(self, photo: Photo, name: str) -> None:
        """Note the markers of a photograph, which is as it was taken; `name` is what errors call it."""
        light, step = _light(photo)
        # As eyes see it, for the search; what is measured is linear, where the middle of an edge is its place.
        picture = np.rint(255 * np.sqrt(light)).astype(np.uint8)
        self._looked += 1
        # All kinds until one is found: that takes several times as long.
        for kind in DICTIONARIES if self._known is None else (self._known,):
            corners, numbers, _ = _detector(kind).detectMarkers(picture)
            for corner, number in zip(corners, () if numbers is None else numbers.ravel(), strict=False):
                self._known = kind
                rays = _rays(photo, (_refined(light, corner.reshape(4, 2)).astype(np.float64) + 0.5) * step)
                self._sightings.append(Sighting(f"{kind} {number}", name, photo.pose[:3, 3], rays))

    def scale(self, source: str) -> Scale:
        """What the marker that most photographs show tells.

        Raises:
            ReconError: no photograph shows one, or one alone does, or all are from one place; it is no square.
        """
        names = sorted({each.marker for each in self._sightings})
        if not names:
            raise ReconError(
                f"{source}: '--marker': none of {self._looked} photographs shows an ArUco marker; expected a printed "
                "one (4×4 to 7×7 bits, or AprilTag 36h11), flat, with a white rim, whole in two or more of them"
            )
        of = {name: [each for each in self._sightings if each.marker == name] for name in names}
        chosen = max(names, key=lambda name: len(of[name]))
        if len(of[chosen]) < 2:
            seen = listed([each.name for name in names for each in of[name]])
            raise ReconError(
                f"{source}: '--marker': {seen} alone shows a marker ({chosen}); expected two or more views"
            )
        return _scale(of[chosen], self._side, source)


def _scale(sightings: list[Sighting], side: float, source: str) -> Scale:
    origins = np.stack([each.origin for each in sightings])
    rays = np.stack([each.rays for each in sightings])
    if _spread(rays) < NARROW:
        raise ReconError(
            f"{source}: '--marker': all {len(rays)} photographs of {sightings[0].marker} are from about one place; "
            f"expected {NARROW:.0f}° or more between two of them"
        )
    kept = np.ones(len(rays), bool)
    for _ in range(3):  # a view that is off pulls the corners, so those left out are looked at again
        corners = np.stack([nearest_point(origins[kept], rays[kept, i]) for i in range(4)])
        off = _angles(corners, origins, rays)
        kept = off <= max(STRAY * float(np.median(off)), TOLERANCE)
        if kept.sum() < 2:
            kept = np.argsort(np.argsort(off)) < 2
    sides = np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1)
    unevenness = float(np.abs(sides / sides.mean() - 1).max())
    if unevenness > UNEVEN:
        raise ReconError(
            f"{source}: '--marker': the corners of {sightings[0].marker} make no square, its sides differ by "
            f"{unevenness:.0%}; expected one marker of that number, flat, and poses that fit the photographs"
        )
    normal = np.cross(corners[2] - corners[0], corners[3] - corners[1])
    normal *= np.sign(normal @ (origins.mean(axis=0) - corners.mean(axis=0))) / np.linalg.norm(normal)
    x, y, z = normal.tolist()
    return Scale(side / float(sides.mean()), (x, y, z), sightings[0].marker, int(kept.sum()), unevenness)


def _spread(rays: Float[np.ndarray, "n 4 3"]) -> float:
    """The largest angle between two rays to one corner, in degrees."""
    cosine = np.einsum("nci,mci->nmc", rays, rays).min()
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _angles(
    corners: Float[np.ndarray, "4 3"], origins: Float[np.ndarray, "n 3"], rays: Float[np.ndarray, "n 4 3"]
) -> Float[np.ndarray, " n"]:
    """The largest angle between a view's rays and the corners, in radians."""
    towards = corners - origins[:, None]
    towards /= np.linalg.norm(towards, axis=2, keepdims=True)
    return np.linalg.norm(np.cross(towards, rays), axis=2).max(axis=1)


def _light(photo: Photo) -> tuple[Float32[np.ndarray, "h w"], float]:
    """Linear brightness, 0 to 1, of the photograph in a size to search, and how many pixels of the photograph one of
    that has along a side."""
    light = photo.picture.color.mean(axis=2)
    # Raw files are dark where nothing is overexposed.
    bright = max(float(np.quantile(light[:: max(1, len(light) // 500)], 0.99)), 1e-6)
    light = np.ascontiguousarray((light / bright).clip(0, 1), dtype=np.float32)
    step = max(max(light.shape) / LARGEST, 1.0)
    if step > 1:
        size = round(light.shape[1] / step), round(light.shape[0] / step)
        light = cv2.resize(light, size, interpolation=cv2.INTER_AREA)
    return light, step


def _refined(light: Float32[np.ndarray, "h w"], corners: Float32[np.ndarray, "4 2"]) -> Float32[np.ndarray, "4 2"]:
    """Corners to a fraction of a pixel, from windows that hold no bit of the marker: these are a ninth of its side."""
    side = float(np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1).min())
    half = int(np.clip(side / 10, 2, 12))
    stop = cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 50, 1e-3
    return cv2.cornerSubPix(light, corners.copy(), (half, half), (-1, -1), stop)


def _detector(kind: str) -> cv2.aruco.ArucoDetector:
    return cv2.aruco.ArucoDetector(DICTIONARIES[kind])


def _rays(photo: Photo, pixels: Float[np.ndarray, "4 2"]) -> Float[np.ndarray, "4 3"]:
    """Unit directions in the source's frame through places of the photograph; its first pixel centre is (0.5, 0.5)."""
    coefficients = np.zeros(4) if photo.distortion is None else photo.distortion
    straighten = cv2.fisheye.undistortPoints if photo.fisheye else cv2.undistortPoints
    plane = np.asarray(straighten(pixels[:, None], photo.intrinsics, coefficients)).reshape(4, 2)
    rays = np.column_stack([plane, np.ones(4)]) @ photo.pose[:3, :3].T
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)
