"""Where the object lies and how large it is: the similarity from the unit sphere to the source's frame.

With masks it comes from the object's silhouettes; without from points on it, from what moves before a background that
stays, or from where the cameras look. The surface that is fitted never leaves the sphere, so what lies outside is lost:
where in doubt the sphere is too large.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import binary_closing, binary_erosion, binary_fill_holes, binary_opening, distance_transform_edt
from scipy.spatial import KDTree

from recon.errors import ReconError
from recon.geometry.meshes import bounding_sphere, similarity
from recon.images.black import BLACK

FILL = 0.9
"""Radius that the visual hull gets in the unit sphere."""

DEPTH = 1.3
"""How far the hull is believed, in radii of the sphere about its centroid that every silhouette fits in.

Cameras on one side leave a hull that tapers off far in front of and behind the object. That sphere
holds an object no deeper than it is wide; this allows for more."""

GRID = 64
"""Voxels along each side of the carved cube."""

FEWEST = 50
"""Points below which they say nothing of the object's size."""

FEW_VIEWS = 3
"""Views that a point needs to be believed: two rays nearly always meet somewhere."""

IN_SIGHT = 0.5
"""Share of the cameras that have a point of the object in their picture: what is photographed is what is looked at."""

POINTS_FILL = 0.85
"""Radius that the points get in the unit sphere: surfaces without texture have none, and may reach beyond them."""

STILL_FILL = 0.75
"""Radius that the hull of what moves gets: a plain side that turns does not seem to move."""

GAP = 1.6
"""A factor of the distance from the focus over which no point lies parts the object from what is behind it."""

LONE = 4.0
"""Distance of a point from its neighbours, in the 90% quantile of all such distances, beyond which it is an error."""

CLEAR = 0.95
"""Largest radius of the sphere, in distances of the nearest camera from its centre: cameras are outside."""

STILL = 0.06
"""Difference of the square roots of two radiances, where the brightest is 1, that noise does not reach."""


def frame_from_masks(
    camera_to_world: Float[np.ndarray, "n 4 4"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    masks: Bool[np.ndarray, "n h w"],
    source: str,
    known: Bool[np.ndarray, "n h w"] | None = None,
) -> Float[np.ndarray, "4 4"]:
    """The unit sphere around the visual hull of the masks (Laurentini 1994); pixels that are not `known` may be object
    where the nearest that is known is.

    Raises:
        ReconError: fewer than two viewing directions, or masks and poses that contradict one another.
    """
    origins, directions = _silhouette_rays(camera_to_world, intrinsics, masks)
    if len(masks) < 2 or np.linalg.svd(directions, compute_uv=False)[1] < 1e-6:
        raise ReconError(f"{source}: masks from one direction alone do not bound the object; expected several views")
    center = nearest_point(camera_to_world[:, :3, 3], _centroid_rays(camera_to_world, intrinsics, masks))
    carving = masks if known is None else _continued(masks, known)
    for reach in (2, DEPTH):  # coarse, then about the centroid
        grid, step = _ball_grid(center, reach * float(_line_distances(center, origins, directions).max()))
        hull = grid[_carve(grid, camera_to_world, intrinsics, carving)]
        if len(hull) < 8:
            raise ReconError(
                f"{source}: the masks have no volume in common: do poses and masks belong together, "
                "and is the camera convention right?"
            )
        center = hull.mean(axis=0)
    center, radius = bounding_sphere(hull)
    return similarity(center, (radius + np.sqrt(3) / 2 * step) / FILL)


def frame_from_cameras(
    camera_to_world: Float[np.ndarray, "n 4 4"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    sizes: Int[np.ndarray, "n 2"],
    source: str,
) -> Float[np.ndarray, "4 4"]:
    """The sphere about the point nearest to all optical axes that fills the longer side of half of the pictures.

    It is a guess: whoever frames an object leaves room around it. `sizes`: height and width of each picture.

    Raises:
        ReconError: the axes are parallel, or meet behind a camera or outside its picture.
    """
    axes, centers = camera_to_world[:, :3, 2], camera_to_world[:, :3, 3]
    if _parallel(axes):
        raise ReconError(f"{source}: the cameras' optical axes are parallel, so they show no common point; give masks")
    focus = nearest_point(centers, axes)
    views = zip(camera_to_world, intrinsics, sizes, strict=True)
    distances = np.array([_frustum_distances(focus, pose, matrix, *map(int, size)) for pose, matrix, size in views])
    nearest = distances.min(axis=1)
    if nearest.min() <= 0:
        raise ReconError(
            f"{source}: view {nearest.argmin()} does not see the point where the cameras' optical axes meet; "
            "give masks, or the right camera convention"
        )
    longer = np.maximum(distances[:, 0::2].min(axis=1), distances[:, 1::2].min(axis=1))
    return similarity(focus, _clear(focus, float(np.median(longer)), centers))


def frame_from_points(
    points: Float[np.ndarray, "p 3"],
    counts: Int[np.ndarray, " p"],
    camera_to_world: Float[np.ndarray, "n 4 4"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    sizes: Int[np.ndarray, "n 2"],
) -> Float[np.ndarray, "4 4"] | None:
    """The unit sphere around the points of structure from motion that belong to the object; None where there are too
    few.

    These are seen by several views, lie in the pictures of most cameras and nearer to what these look at than the
    nearest camera, and no gap parts them from there. Lone ones are errors. A table that the object stands on stays in,
    as far as most cameras show it: a sphere that is too large costs resolution, one that is too small cuts the object.

    Args:
        counts: how many views see each point.
        sizes: height and width of each picture.
    """
    axes, centers = camera_to_world[:, :3, 2], camera_to_world[:, :3, 3]
    believed = points[counts >= (FEW_VIEWS if (counts >= FEW_VIEWS).sum() >= FEWEST else 2)]
    believed = believed[_in_sight(believed, camera_to_world, intrinsics, sizes) >= IN_SIGHT]
    if len(believed) < FEWEST:
        return None
    focus = np.median(believed, axis=0) if _parallel(axes) else nearest_point(centers, axes)
    distances = np.linalg.norm(believed - focus, axis=1)
    believed = believed[distances < np.linalg.norm(centers - focus, axis=1).min()]
    if len(believed) < FEWEST:
        return None
    near = KDTree(believed).query(believed, k=5)[0][:, 4]
    believed = believed[near <= LONE * np.quantile(near, 0.9)]
    center, radius = bounding_sphere(_before_gap(believed, focus))
    return similarity(center, _clear(center, radius / POINTS_FILL, centers)) if radius > 0 else None


def _parallel(axes: Float[np.ndarray, "n 3"]) -> bool:
    spread = np.linalg.svd(axes, compute_uv=False)
    return len(axes) < 2 or bool(spread[1] < 1e-2 * spread[0])


def _clear(center: Float[np.ndarray, " 3"], radius: float, cameras: Float[np.ndarray, "n 3"]) -> float:
    """The radius, or the largest one that leaves the cameras outside."""
    return min(radius, CLEAR * float(np.linalg.norm(cameras - center, axis=1).min()))


def _in_sight(
    points: Float[np.ndarray, "p 3"],
    camera_to_world: Float[np.ndarray, "n 4 4"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    sizes: Int[np.ndarray, "n 2"],
) -> Float[np.ndarray, " p"]:
    """Of each point, the share of the cameras that have it in their picture, behind something or not."""
    seen = np.zeros(len(points))
    for pose, matrix, (height, width) in zip(camera_to_world, intrinsics, sizes, strict=True):
        local = (points - pose[:3, 3]) @ pose[:3, :3] @ matrix.T
        ahead = local[:, 2] > 0
        place = local[:, :2] / np.where(ahead, local[:, 2], 1)[:, None]
        seen += ahead & (place >= 0).all(axis=1) & (place < [width, height]).all(axis=1)
    return seen / len(sizes)


def _before_gap(points: Float[np.ndarray, "p 3"], focus: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "q 3"]:
    """The points nearer to the focus than the first gap behind `FEWEST` of them."""
    distances = np.linalg.norm(points - focus, axis=1)
    order = np.argsort(distances)
    steps = distances[order[1:]] > GAP * distances[order[:-1]]
    steps[: FEWEST - 1] = False
    return points[order[: steps.argmax() + 1]] if steps.any() else points


def masks_from_black(
    images: Float[np.ndarray, "n h w 3"], known: Bool[np.ndarray, "n h w"] | None = None
) -> Bool[np.ndarray, "n h w"] | None:
    """Where the object is, if that is plain: what is known of each picture is black along its border, not inside."""
    if known is None:
        known = np.ones(images.shape[:3], bool)
    border = known & ~np.stack([binary_erosion(each, np.ones((3, 3))) for each in known])
    masks = (images.max(axis=3) / images.max() > BLACK) & known
    plain = not (masks & border).any() and masks.any(axis=(1, 2)).all()
    return masks if plain else None


def frame_from_still(
    camera_to_world: Float[np.ndarray, "n 4 4"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    images: Float[np.ndarray, "n h w 3"],
    known: Bool[np.ndarray, "n h w"] | None,
    source: str,
) -> Float[np.ndarray, "4 4"] | None:
    """The unit sphere around the hull of what moves before a background that stays, as of an object on a turntable
    before a camera that stands; None where that is not what the pictures show."""
    masks = masks_from_still(images, known)
    if masks is None:
        return None
    frame = frame_from_masks(camera_to_world, intrinsics, masks, source, known)
    center = frame[:3, 3]
    return similarity(center, _clear(center, float(frame[0, 0]) * FILL / STILL_FILL, camera_to_world[:, :3, 3]))


def masks_from_still(
    images: Float[np.ndarray, "n h w 3"], known: Bool[np.ndarray, "n h w"] | None = None
) -> Bool[np.ndarray, "n h w"] | None:
    """What differs from the median of all pictures, if all along their borders nearly nothing does; else None."""
    shown = np.ones(images.shape[1:3], bool) if known is None else known.all(axis=0)
    if len(images) < FEW_VIEWS or not shown.any() or images.max() <= 0:
        return None
    roots = np.sqrt(images.clip(0) / images.max())
    moves = (np.abs(roots - np.median(roots, axis=0)).max(axis=3) > STILL) & shown
    border = shown & ~binary_erosion(shown, np.ones((3, 3)))
    if moves[:, border].mean() > 0.02:
        return None
    disc = np.ones((3, 3), bool)
    masks = np.stack([binary_fill_holes(binary_closing(binary_opening(each, disc), disc)) for each in moves])
    return masks if masks.any(axis=(1, 2)).all() else None


def _continued(masks: Bool[np.ndarray, "n h w"], known: Bool[np.ndarray, "n h w"]) -> Bool[np.ndarray, "n h w"]:
    """The masks with what is not known as the nearest pixel that is."""
    nearest = [distance_transform_edt(~each, return_distances=False, return_indices=True) for each in known]
    return np.stack([mask[tuple(index)] for mask, index in zip(masks, nearest, strict=True)])


def nearest_point(origins: Float[np.ndarray, "m 3"], directions: Float[np.ndarray, "m 3"]) -> Float[np.ndarray, " 3"]:
    """The point with the least sum of squared distances to the lines (unit directions)."""
    projectors = np.eye(3) - directions[:, :, None] * directions[:, None, :]
    offsets = np.einsum("mij,mj->i", projectors, origins)
    return np.linalg.lstsq(projectors.sum(axis=0), offsets, rcond=None)[0]


def _line_distances(
    point: Float[np.ndarray, " 3"], origins: Float[np.ndarray, "m 3"], directions: Float[np.ndarray, "m 3"]
) -> Float[np.ndarray, " m"]:
    return np.linalg.norm(np.cross(point - origins, directions), axis=1)


def _silhouette_rays(
    camera_to_world: Float[np.ndarray, "n 4 4"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    masks: Bool[np.ndarray, "n h w"],
) -> tuple[Float[np.ndarray, "m 3"], Float[np.ndarray, "m 3"]]:
    """Origins and unit directions of the rays through the outermost pixels of the masks."""
    origins, directions = [], []
    for pose, matrix, mask in zip(camera_to_world, intrinsics, masks, strict=True):
        pixels = np.argwhere(mask & ~binary_erosion(mask)) + 0.5
        directions.append(_rays(pixels, pose, matrix))
        origins.append(np.tile(pose[:3, 3], (len(pixels), 1)))
    return np.concatenate(origins), np.concatenate(directions)


def _centroid_rays(
    camera_to_world: Float[np.ndarray, "n 4 4"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    masks: Bool[np.ndarray, "n h w"],
) -> Float[np.ndarray, "n 3"]:
    views = zip(camera_to_world, intrinsics, masks, strict=True)
    return np.concatenate(
        [_rays(np.argwhere(mask).mean(axis=0, keepdims=True) + 0.5, pose, matrix) for pose, matrix, mask in views]
    )


def _rays(
    pixels: Float[np.ndarray, "k 2"], pose: Float[np.ndarray, "4 4"], matrix: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "k 3"]:
    """Unit world directions through image points (row, column)."""
    homogeneous = np.column_stack([pixels[:, ::-1], np.ones(len(pixels))])
    rays = homogeneous @ np.linalg.inv(matrix).T @ pose[:3, :3].T
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def _ball_grid(center: Float[np.ndarray, " 3"], radius: float) -> tuple[Float[np.ndarray, "v 3"], float]:
    """Voxel centres within a ball, and their spacing."""
    step = 2 * radius / GRID
    ticks = (np.arange(GRID) + 0.5) * step - radius
    offsets = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 3)
    return center + offsets[np.linalg.norm(offsets, axis=1) <= radius], step


def _carve(
    points: Float[np.ndarray, "v 3"],
    camera_to_world: Float[np.ndarray, "n 4 4"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    masks: Bool[np.ndarray, "n h w"],
) -> Bool[np.ndarray, " v"]:
    """Which points every view sees in its mask. What is out of a picture may be object only where the
    mask touches the picture's border."""
    kept = np.ones(len(points), bool)
    height, width = masks.shape[1:]
    for pose, matrix, mask in zip(camera_to_world, intrinsics, masks, strict=True):
        alive = np.flatnonzero(kept)
        local = (points[alive] - pose[:3, 3]) @ pose[:3, :3] @ matrix.T
        ahead = local[:, 2] > 0
        pixels = np.floor(local[:, :2] / np.where(ahead, local[:, 2], 1)[:, None])
        column, row = (pixels.clip(-1, [width, height]).astype(int) + 1).T
        padded = np.pad(mask, 1, mode="edge")
        kept[alive] = ahead & padded[row, column]
    return kept


def _frustum_distances(
    point: Float[np.ndarray, " 3"],
    pose: Float[np.ndarray, "4 4"],
    matrix: Float[np.ndarray, "3 3"],
    height: int,
    width: int,
) -> Float[np.ndarray, " 4"]:
    """Distances from a point to the top, right, bottom and left sides of a camera's view, negative outside."""
    rays = _rays(np.array([[0.0, 0], [0, width], [height, width], [height, 0]]), pose, matrix)
    inward = np.cross(rays, np.roll(rays, -1, axis=0))
    inward /= np.linalg.norm(inward, axis=1, keepdims=True)
    return inward @ (point - pose[:3, 3])
