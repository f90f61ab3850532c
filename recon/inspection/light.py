"""What lights the object: a flash that moves with the camera, lamps that do not, or both.

A point of a matte surface that several views see has, lit by a flash, brightness cos θ / r² times its own colour, with
θ between its normal and the camera, and r its distance. Lit by lamps that stand still beside it, it is equally bright
from everywhere. So the exponent of cos θ, with 1/r² taken out and each point's mean with it, is 1 or 0; it tells also
where all distances are equal. Lamps that stand still before a turntable follow the camera instead, and leave a spread
that neither explains.

Without points, but with masks or before black, each view's brightness is explained by the normals of the hull of the
masks: the direction that it grows towards is that of the light, roughly, and a flash's is the camera's.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter
from scipy.spatial import KDTree

from recon.inspection.coverage import Coverage
from recon.inspection.outlines import outlined
from recon.views import Views

FEWEST = 300
"""Sights of points below which nothing is said."""

DARK, BRIGHT = 0.005, 0.98
"""Radiance between which a pixel counts, where the brightest is 1: neither noise nor cut off."""

SLANTED = 0.15
"""Least cosine to the camera: normals of points are not exact."""

VARIES = 0.05
"""Standard deviation of the logarithm of the cosine that the sights of points must have."""

NEIGHBOURS = 16
"""Points that a normal comes from."""

FLASH, FIXED = 0.65, 0.3
"""Exponent of the cosine from which on the light is a flash, and up to which it is fixed."""

SPREAD = 0.4
"""Of the logarithm of brightness, with all of a flash taken out, that no flash leaves: 0.24 is usual for JPEGs."""


BESIDE, ASIDE = 30.0, 45.0
"""Degrees between the light that the hull's normals tell and the camera, in half of the views: up to the first a flash,
from the second on a fixed light."""

SMOOTH = 2.0
"""Cells of the map of directions over which the hull is smoothed for its normals."""


class Sights(NamedTuple):
    """Points of the surface as views see them: one entry a sight.

    Attributes:
        point, view: their numbers.
        cosine, distance: of the point's normal to the camera, and to it.
        radiance: mean of the channels there.
    """

    point: Int[np.ndarray, " s"]
    view: Int[np.ndarray, " s"]
    cosine: Float[np.ndarray, " s"]
    distance: Float[np.ndarray, " s"]
    radiance: Float[np.ndarray, " s"]


class Light(NamedTuple):
    """What the light seems to be.

    Attributes:
        kind: `unknown` where it cannot be told, and `reason` says why.
        exponent: of the cosine to the camera: 1 for a flash, 0 for light from elsewhere.
        spread: standard deviation of log(brightness · r²) between the views of a point.
        left: what remains of it with the cosine taken out.
        angle: degrees between the camera and the light that the hull's normals tell, where that was asked.
    """

    kind: Literal["flash", "mixed", "fixed", "unknown"]
    exponent: float = np.nan
    spread: float = np.nan
    left: float = np.nan
    angle: float = np.nan
    reason: str = ""

    @property
    def sentence(self) -> str:
        """In words."""
        if self.kind == "unknown":
            return f"cannot be told: {self.reason}"
        name = {"flash": "a flash", "mixed": "a flash and other light", "fixed": "fixed, not a flash"}[self.kind]
        if np.isfinite(self.angle):
            return f"{name}: {self.angle:.0f}° from the camera, by shading on the hull of the masks"
        return (
            f"{name}: brightness goes as cosine^{self.exponent:.2f} (flash 1, fixed light 0); "
            f"log(brightness · r²) spreads by {self.spread:.2f} between views, {self.left:.2f} without the cosine"
        )


def light_of(views: Views, covered: Coverage) -> Light:
    """The light, by the points of structure from motion, or by the surface of the masks' hull."""
    if views.light_position is not None or views.light_direction is not None:
        return Light("unknown", reason="the set says where its lights are")
    if views.points is None:
        return _by_hull(views, covered)
    sights = _of_points(views)
    if sights is None or len(sights.point) < FEWEST:
        return Light("unknown", reason="too few points that several views see")
    cosine = _between_views(np.log(sights.cosine), sights.point)
    if cosine.std() < VARIES:
        return Light("unknown", reason="all views see their points at about the same angle")
    brightness = _between_views(np.log(sights.radiance * sights.distance**2), sights.point)
    exponent = float(cosine @ brightness / (cosine @ cosine))
    left = float((brightness - cosine).std())
    kind: Literal["flash", "mixed", "fixed"] = "mixed"
    if exponent <= FIXED or left > SPREAD:
        kind = "fixed"
    elif exponent >= FLASH:
        kind = "flash"
    return Light(kind, exponent, float(brightness.std()), left)


def _of_points(views: Views) -> Sights | None:
    """Of points inside the unit sphere, with normals from their neighbours, turned to the cameras that see them."""
    assert views.points is not None and views.observations is not None
    inside = np.linalg.norm(views.points, axis=1) < 1
    if inside.sum() < NEIGHBOURS:
        return None
    number = np.cumsum(inside) - 1
    kept = views.observations[inside[views.observations[:, 0]]]
    point, view = number[kept[:, 0]], kept[:, 1]
    places = views.points[inside].astype(np.float64)
    towards = np.zeros_like(places)
    np.add.at(towards, point, views.camera_to_world[view, :3, 3] - places[point])
    return _sights(views, places, _normals(places, towards), point, view)


def _normals(places: Float[np.ndarray, "p 3"], towards: Float[np.ndarray, "p 3"]) -> Float[np.ndarray, "p 3"]:
    """Across the plane of the nearest points, on the side of `towards`."""
    near = places[KDTree(places).query(places, k=NEIGHBOURS)[1]]
    near = near - near.mean(axis=1, keepdims=True)
    normals = np.linalg.eigh(np.einsum("pki,pkj->pij", near, near))[1][:, :, 0]
    return normals * np.where((normals * towards).sum(axis=1) < 0, -1.0, 1.0)[:, None]


def _by_hull(views: Views, covered: Coverage) -> Light:
    """By the direction that brightness · r² grows towards on the hull, in half of the views."""
    views = outlined(views)
    if views.masks is None:
        return Light("unknown", reason="there are neither points nor masks")
    places, normals = _hull(covered)
    angles = []
    for view in range(len(views)):
        found = _sights(views, places, normals, np.arange(len(places)), np.full(len(places), view), fewest=1)
        local = np.column_stack([normals[found.point] @ views.camera_to_world[view, :3, :3], np.ones(len(found.point))])
        if len(local) >= 4 * NEIGHBOURS:
            weight = (
                np.sqrt(1 - covered.directions[..., 2].ravel()[found.point] ** 2) ** 0.5
            )  # cells shrink to the poles
            brightness = found.radiance * found.distance**2
            x, y, z, _ = np.linalg.lstsq(local * weight[:, None], brightness * weight, rcond=None)[0]
            angles.append(np.degrees(np.arctan2(np.hypot(x, y), -z)))
    if len(angles) < 3:
        return Light("unknown", reason="the object is too small in the views")
    angle = float(np.median(angles))
    if BESIDE < angle < ASIDE:
        return Light("unknown", reason=f"the hull of the masks is too coarse; it says {angle:.0f}° from the camera")
    return Light("flash" if angle <= BESIDE else "fixed", angle=angle)


def _hull(covered: Coverage) -> tuple[Float[np.ndarray, "p 3"], Float[np.ndarray, "p 3"]]:
    """Places and normals of the surface that the masks leave room for."""
    radius = gaussian_filter(covered.radius, SMOOTH, mode=("nearest", "wrap"))
    surface = radius[..., None] * covered.directions
    along, across = np.gradient(surface, axis=0), np.roll(surface, -1, axis=1) - np.roll(surface, 1, axis=1)
    normals = np.cross(across, along)
    normals /= np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-12)
    return surface.reshape(-1, 3), normals.reshape(-1, 3)


def _sights(
    views: Views,
    places: Float[np.ndarray, "p 3"],
    normals: Float[np.ndarray, "p 3"],
    point: Int[np.ndarray, " m"],
    view: Int[np.ndarray, " m"],
    fewest: int = 3,
) -> Sights:
    """Those of the pairs that a picture shows, neither slanted nor dark nor cut off, of points that then have
    `fewest`."""
    poses = views.camera_to_world[view]
    offset = places[point] - poses[:, :3, 3]
    distance = np.linalg.norm(offset, axis=1)
    cosine = -(offset * normals[point]).sum(axis=1) / np.maximum(distance, 1e-12)
    local = np.einsum("mji,mj->mi", poses[:, :3, :3], offset)
    pixels = np.einsum("mij,mj->mi", views.intrinsics[view], local)
    ahead = pixels[:, 2] > 1e-6
    place = np.floor(pixels[:, :2] / np.where(ahead, pixels[:, 2], 1)[:, None])
    good = ahead & (cosine > SLANTED) & ((place >= 0) & (place < [views.width, views.height])).all(axis=1)
    column, row = np.where(good[:, None], place, 0).astype(int).T
    radiance = views.images[view, row, column].mean(axis=1).astype(np.float64)
    good &= (radiance > DARK) & (views.images[view, row, column].max(axis=1) < BRIGHT)
    for shown in (views.known, views.masks):
        if shown is not None:
            good &= shown[view, row, column] > 0
    good &= (np.bincount(point[good], minlength=len(places)) >= fewest)[point]
    return Sights(point[good], view[good], cosine[good], distance[good], radiance[good])


def _between_views(values: Float[np.ndarray, " s"], point: Int[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
    """The values without the mean of each point."""
    return values - (np.bincount(point, values) / np.maximum(np.bincount(point), 1))[point]
