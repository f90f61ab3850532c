"""The octahedral map: the unit sphere as a square, and what of a mesh of the sphere lies where on it.

A point goes to the octahedron |x| + |y| + |z| = 1 by central projection; the upper half is looked at from above, and
the four lower sides are folded out around it (Praun and Hoppe 2003; Cigolle et al. 2014). The map is continuous but at
the cut, the four quarter circles from the south pole to the x and y axes, whose two sides are the halves of the
square's borders: (1, y) and (1, -y) are one point. It has creases in the three coordinate planes, and between them
carries great circles to straight lines.

A place is (a, b) in [-1, 1]^2; on a texture a grows to the right and b upwards, so that its picture is the sphere as it
is seen from outside, from above. Around the square a texture has a gutter, in which the map goes on beyond the cut: so
a texel on the border and its neighbour across the cut are filtered alike on both sides, and no seam is seen.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int, Int64

ON_PLANE = 1e-6
"""Coordinates up to here are 0. The edges of an icosphere of level 7 are 0.008 long."""

STEPS = 2**20
"""To which places are told apart along each axis of the square, to either side of 0."""


class Atlas(NamedTuple):
    """A mesh of the sphere with a place on the square for each vertex, cut and creased where the map is.

    Attributes:
        faces: of vertices of the atlas.
        places: of the vertices, (a, b).
        vertex: which point of the split mesh a vertex of the atlas is: the first are these points in their order,
            then follow those that the cut has twice, or, the south pole, four times.
        parents: the points of the given mesh between which those that are new lie halfway: the split mesh has the
            given points, then these.
    """

    faces: Int64[np.ndarray, "f 3"]
    places: Float64[np.ndarray, "w 2"]
    vertex: Int64[np.ndarray, " w"]
    parents: Int64[np.ndarray, "m 2"]

    def split(self, values: Float[np.ndarray, "v k"]) -> Float[np.ndarray, "u k"]:
        """Of values at the points of the given mesh, those at the points of the split one: the surface is the same."""
        return np.concatenate([values, values[self.parents].mean(axis=1)])

    def welded(self) -> Int64[np.ndarray, "f 3"]:
        """The faces as of the points of the split mesh, closed where the atlas is cut."""
        return self.vertex[self.faces]


def octahedral_atlas(sphere: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Atlas:
    """Lay a triangulation of the unit sphere out on the square.

    Triangles that cross a coordinate plane are split in two there, so that none is bent by a crease of the map or torn
    by its cut. The coordinate planes have to mirror the triangulation, as they do the icospheres of
    `recon.surface.icosphere`: a triangle that crosses one has a corner on it, and two that are mirrored.
    """
    points = np.where(np.abs(sphere) < ON_PLANE, 0, sphere).astype(np.float64)
    split, parents = faces.astype(np.int64), np.empty((0, 2), np.int64)
    for axis in range(3):
        split, parents = _split_at_plane(points[:, axis], split, parents)
    between = points[parents].mean(axis=1)
    points = np.concatenate([points, np.where(np.abs(between) < ON_PLANE, 0, between)])
    corners = _places(points[split], np.sign(points[split].mean(axis=1)))
    return Atlas(*_told_apart(split, corners, len(points)), parents)


def sphere_points(places: Float[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n 3"]:
    """The points of the unit sphere at places of the square."""
    a, b = places.T.astype(np.float64)
    z = 1 - np.abs(a) - np.abs(b)
    below = np.maximum(-z, 0)
    points = np.stack([a - np.copysign(below, a), b - np.copysign(below, b), z], axis=1)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def gutter(size: int) -> int:
    """Texels around the square on a texture of `size` texels a side: filters of three mipmap levels stay inside."""
    return max(2, size // 128)


def texture_coordinates(places: Float[np.ndarray, "w 2"], size: int) -> Float64[np.ndarray, "w 2"]:
    """(u, v) of places as glTF has them: in [0, 1], from the texture's upper left corner."""
    inner = 1 - 2 * gutter(size) / size
    return 0.5 + 0.5 * inner * places * (1, -1)


def texel_places(size: int) -> Float64[np.ndarray, "n 2"]:
    """The places of the centres of the texels inside the gutter, row by row."""
    inner = size - 2 * gutter(size)
    centers = (2 * np.arange(inner) + 1) / inner - 1
    b, a = np.meshgrid(-centers, centers, indexing="ij")
    return np.stack([a, b], axis=-1).reshape(-1, 2)


def padding(size: int) -> Int64[np.ndarray, "n n"]:
    """Which texel fills each one of a texture, counted inside the gutter as `texel_places` does.

    Beyond a border the map goes on as it is on the square when that is turned about the middle of the border.
    """
    inner = size - 2 * gutter(size)
    row, column = _rows_and_columns(size)
    over = (row < 0) | (row >= inner)
    row, column = _reflected(row, inner), np.where(over, inner - 1 - column, column)
    aside = (column < 0) | (column >= inner)
    column, row = _reflected(column, inner), np.where(aside, inner - 1 - row, row)
    return row * inner + column


def edge_texels(size: int) -> tuple[Int64[np.ndarray, "n n"], Int64[np.ndarray, "n n"]]:
    """Texels from which what goes straight on beyond the square's borders is extrapolated: twice the first of these
    less the second. In the gutter they are the nearest inside and its neighbour inward; inside, the texel itself twice.
    """
    inner = size - 2 * gutter(size)
    places = _rows_and_columns(size)
    row, column = (each.clip(0, inner - 1) for each in places)
    inward = (each.clip(1, inner - 2) for each in places)
    behind_row, behind_column = (
        np.where(each == edge, each, behind) for each, edge, behind in zip(places, (row, column), inward, strict=True)
    )
    return row * inner + column, behind_row * inner + behind_column


def _rows_and_columns(size: int) -> tuple[Int64[np.ndarray, "n n"], Int64[np.ndarray, "n n"]]:
    """Of all texels, counted from the first inside the gutter."""
    row, column = np.meshgrid(*2 * [np.arange(size) - gutter(size)], indexing="ij")
    return row, column


def _reflected(index: Int64[np.ndarray, "n n"], count: int) -> Int64[np.ndarray, "n n"]:
    """Indices beyond either end of `count`, mirrored there."""
    return np.where(index < 0, -1 - index, np.where(index >= count, 2 * count - 1 - index, index))


def _split_at_plane(
    coordinate: Float64[np.ndarray, " v"], faces: Int64[np.ndarray, "f 3"], parents: Int64[np.ndarray, "m 2"]
) -> tuple[Int64[np.ndarray, "g 3"], Int64[np.ndarray, "n 2"]]:
    """Faces that do not cross the plane where the points' `coordinate` is 0, and `parents` with those of new points.

    The corners of a face that crosses it are given points, for no face crosses two of the planes.
    """
    side = np.zeros(len(coordinate) + len(parents))
    side[: len(coordinate)] = np.sign(coordinate)
    corner_side = side[faces]
    crossing = (corner_side.min(axis=1) < 0) & (corner_side.max(axis=1) > 0)
    if (np.sort(corner_side[crossing], axis=1) != (-1, 0, 1)).any() or (faces[crossing] >= len(coordinate)).any():
        raise ValueError("the coordinate planes do not mirror these triangles")
    # Each in an order that starts with the corner on the plane: a, b, c with the new point between b and c.
    first = np.argmin(np.abs(corner_side[crossing]), axis=1)
    a, b, c = (np.take_along_axis(faces[crossing], (first[:, None] + k) % 3, axis=1)[:, 0] for k in range(3))
    edges, of_face = np.unique(np.sort(np.stack([b, c], axis=1), axis=1), axis=0, return_inverse=True)
    new = len(side) + of_face.reshape(-1)
    halves = np.concatenate([np.stack([a, b, new], axis=1), np.stack([a, new, c], axis=1)])
    return np.concatenate([faces[~crossing], halves]), np.concatenate([parents, edges])


def _places(points: Float64[np.ndarray, "f 3 3"], octant: Float64[np.ndarray, "f 3"]) -> Float64[np.ndarray, "f 3 2"]:
    """Of the corners of faces on the square, each face laid out as its octant (signs of x, y, z) is."""
    flat = points / np.abs(points).sum(axis=-1, keepdims=True)
    beside = np.abs(flat[..., :2])
    folded = octant[:, None, :2] * (1 - beside[..., ::-1])
    return np.where(octant[:, None, 2:] > 0, flat[..., :2], folded)


def _told_apart(
    faces: Int64[np.ndarray, "f 3"], corners: Float64[np.ndarray, "f 3 2"], count: int
) -> tuple[Int64[np.ndarray, "f 3"], Float64[np.ndarray, "w 2"], Int64[np.ndarray, " w"]]:
    """Faces, places and points of the vertices that `count` points become where faces put them at several places."""
    steps = np.rint((corners + 1) * STEPS).astype(np.int64)
    keys = (faces << 44) | (steps[..., 0] << 22) | steps[..., 1]
    known, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    point = known >> 44
    again = np.concatenate([[False], point[1:] == point[:-1]])
    index = np.where(again, count - 1 + np.cumsum(again), point)
    order = np.argsort(index)
    return index[inverse.reshape(faces.shape)], corners.reshape(-1, 2)[first][order], point[order]
