"""Pairs of triangles of one mesh that pass through one another."""

import numpy as np
from jaxtyping import Bool, Float, Int

# Contacts shallower than this share of a pair's extent are rounding, not intersection.
TOLERANCE = 1e-12
# Bounds the memory: a pair of triangles takes about a kilobyte.
PAIRS_AT_ONCE = 200_000

Triangles = Float[np.ndarray, "p 3 3"]
Pairs = Int[np.ndarray, "p 2"]


def self_intersections(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Pairs:
    """Pairs (i < j) of faces whose interiors meet, in double precision, each once, in no particular order.

    Triangles that only touch, as neighbours do along their edge or at their vertex, do not count;
    neighbours that cross elsewhere, or lie folded on one another, do.
    """
    triangles = vertices.astype(np.float64)[faces]
    candidates = _overlapping_boxes(triangles.min(axis=1), triangles.max(axis=1))
    chunks = np.array_split(candidates, range(PAIRS_AT_ONCE, len(candidates), PAIRS_AT_ONCE))
    return np.concatenate([chunk[_interiors_meet(triangles[chunk[:, 0]], triangles[chunk[:, 1]])] for chunk in chunks])


def _interiors_meet(a: Triangles, b: Triangles) -> Bool[np.ndarray, " p"]:
    """Whether the relative interiors of two triangles have a point in common.

    Separating axes: two convex sets' relative interiors are disjoint exactly if a face normal of
    the difference A - B separates them weakly. Those normals are the two triangles' own, the cross
    products of their edges, and, for triangles in one plane, the edges' normals in it. It needs no
    special case for neighbours: what is shared is touched, and touching separates.
    """
    # From the first corner of each pair: differences of coordinates are small and so are their errors.
    origin = a[:, :1]
    a, b = a - origin, b - origin
    extent = np.maximum(np.abs(a).max(axis=(1, 2)), np.abs(b).max(axis=(1, 2)))
    edges_a, edges_b = np.roll(a, -1, axis=1) - a, np.roll(b, -1, axis=1) - b
    normal_a, normal_b = np.cross(edges_a[:, 0], edges_a[:, 1]), np.cross(edges_b[:, 0], edges_b[:, 1])
    meet = np.ones(len(a), dtype=bool)

    def separate(axis: Float[np.ndarray, "q 3"]) -> None:
        # Only for the pairs that no axis before has separated: after the two normals few are left.
        index = np.flatnonzero(meet)
        length = np.linalg.norm(axis, axis=1)
        on_a, on_b = (np.einsum("pij,pj->pi", t[index], axis) for t in (a, b))
        gap = np.maximum(on_b.min(axis=1) - on_a.max(axis=1), on_a.min(axis=1) - on_b.max(axis=1))
        span = np.maximum(on_a.max(axis=1), on_b.max(axis=1)) - np.minimum(on_a.min(axis=1), on_b.min(axis=1))
        rounding = TOLERANCE * extent[index] * length
        # An axis along which both are points, such as the normal of a common plane, separates nothing.
        meet[index] = ~((gap >= -rounding) & (span > rounding))

    separate(normal_a)
    separate(normal_b[meet])
    for i in range(3):
        for j in range(3):
            separate(np.cross(edges_a[meet, i], edges_b[meet, j]))
    for normal, edges in ((normal_a, edges_a), (normal_b, edges_b)):
        # An edge's normal in the plane is cross(normal, edge). With a unit normal, times the extent, it is as long as
        # the products of edges above, so that the same share of it is rounding.
        unit = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), np.finfo(np.float64).tiny)
        for i in range(3):
            separate(np.cross(unit[meet], edges[meet, i]) * extent[meet, None])
    return meet


def _overlapping_boxes(low: Float[np.ndarray, "f 3"], high: Float[np.ndarray, "f 3"]) -> Pairs:
    """All pairs (i < j) of boxes that meet.

    A balanced tree over the boxes in Morton order (Lauterbach et al. 2009) is descended against
    itself, one level at a time for all pairs at once: boxes of very different size cost no more.
    """
    order = _morton_order((low + high) / 2)
    levels = [(low[order], high[order])]
    while len(levels[-1][0]) > 1:
        levels.append(_parents(*levels[-1]))
    pairs = np.zeros((1, 2), dtype=np.int64)
    for lows, highs in reversed(levels[:-1]):
        # A node that was paired with another is replaced by its two children, for both: four pairs of children.
        children = (2 * pairs[:, None] + np.array([[0, 0], [0, 1], [1, 0], [1, 1]])).reshape(-1, 2)
        # A node against itself yields (left, right) twice: keep the ordered one.
        children = children[(children[:, 0] <= children[:, 1]) & (children[:, 1] < len(lows))]
        first, second = children.T
        meet = ((lows[first] <= highs[second]) & (lows[second] <= highs[first])).all(axis=1)
        pairs = children[meet]
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    return np.sort(order[pairs], axis=1)


def _parents(
    low: Float[np.ndarray, "n 3"], high: Float[np.ndarray, "n 3"]
) -> tuple[Float[np.ndarray, "m 3"], Float[np.ndarray, "m 3"]]:
    """The boxes of successive pairs; an odd last one is its own parent."""
    if len(low) % 2:
        low, high = np.concatenate([low, low[-1:]]), np.concatenate([high, high[-1:]])
    return np.minimum(low[::2], low[1::2]), np.maximum(high[::2], high[1::2])


def _morton_order(points: Float[np.ndarray, "n 3"]) -> Int[np.ndarray, " n"]:
    """Order along the Z curve (Morton 1966), of 2^21 cells along each axis: near points are near in it, mostly, so that
    boxes around successive triangles stay small. Three coordinates of 21 bits fill 63 of an integer's 64."""
    spread = np.ptp(points, axis=0).max() or 1.0
    cells = ((points - points.min(axis=0)) / spread * (2**21 - 1)).astype(np.uint64)
    # Spreads the bits of a coordinate two places apart (the masks are the usual ones).
    for shift, mask in (
        (32, 0x001F00000000FFFF),
        (16, 0x001F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    ):
        cells = (cells | (cells << np.uint64(shift))) & np.uint64(mask)
    return np.argsort(cells[:, 0] | (cells[:, 1] << np.uint64(1)) | (cells[:, 2] << np.uint64(2)))
