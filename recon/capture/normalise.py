"""Where the object lies and how large it is: the similarity from the unit sphere to the source's frame.

With masks it comes from the object's silhouettes, without from points on it or from where the cameras look.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import binary_erosion, distance_transform_edt

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

INLIERS = 0.98
"""Share of the points that are believed."""


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
    height: int,
    width: int,
    source: str,
) -> Float[np.ndarray, "4 4"]:
    """The largest sphere about the point nearest to all optical axes that every camera sees whole.

    Raises:
        ReconError: the axes are parallel, or meet behind a camera or outside its picture.
    """
    axes, centers = camera_to_world[:, :3, 2], camera_to_world[:, :3, 3]
    spread = np.linalg.svd(axes, compute_uv=False)
    if len(axes) < 2 or spread[1] < 1e-2 * spread[0]:
        raise ReconError(f"{source}: the cameras' optical axes are parallel, so they show no common point; give masks")
    focus = nearest_point(centers, axes)
    distances = np.array(
        [
            _frustum_distance(focus, pose, matrix, height, width)
            for pose, matrix in zip(camera_to_world, intrinsics, strict=True)
        ]
    )
    if distances.min() <= 0:
        raise ReconError(
            f"{source}: view {distances.argmin()} does not see the point where the cameras' optical axes meet; "
            "give masks, or the right camera convention"
        )
    return similarity(focus, float(distances.min()))


def frame_from_points(
    points: Float[np.ndarray, "p 3"], sight: Float[np.ndarray, "4 4"]
) -> Float[np.ndarray, "4 4"] | None:
    """The unit sphere around the points on surfaces that lie in the sphere `sight` that all cameras see
    (`frame_from_cameras`), but for outliers; None where these are too few to tell."""
    center, radius = sight[:3, 3], np.cbrt(np.linalg.det(sight[:3, :3]))
    near = points[np.linalg.norm(points - center, axis=1) < radius]
    if len(near) < FEWEST:
        return None
    distances = np.linalg.norm(near - np.median(near, axis=0), axis=1)
    center, radius = bounding_sphere(near[distances <= np.quantile(distances, INLIERS)])
    return similarity(center, radius / FILL) if radius > 0 else None


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


def _frustum_distance(
    point: Float[np.ndarray, " 3"],
    pose: Float[np.ndarray, "4 4"],
    matrix: Float[np.ndarray, "3 3"],
    height: int,
    width: int,
) -> float:
    """Distance from a point to the nearest of the four sides of a camera's view, negative outside."""
    rays = _rays(np.array([[0.0, 0], [0, width], [height, width], [height, 0]]), pose, matrix)
    inward = np.cross(rays, np.roll(rays, -1, axis=0))
    inward /= np.linalg.norm(inward, axis=1, keepdims=True)
    return float((inward @ (point - pose[:3, 3])).min())
