"""Which points lie inside a closed mesh."""

import numpy as np
from jaxtyping import Bool, Float, Int


def inside(
    points: Float[np.ndarray, "n 3"], vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]
) -> Bool[np.ndarray, " n"]:
    """Whether closed parts of a mesh wind around each point (solid angles: Van Oosterom, Strackee 1983)."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    found = ((points > low) & (points < high)).all(axis=1)
    for i in np.flatnonzero(found):
        a, b, c = (vertices[faces[:, k]] - points[i] for k in range(3))
        la, lb, lc = (np.linalg.norm(corner, axis=1) for corner in (a, b, c))
        dot = np.einsum
        volume = dot("fi,fi->f", a, np.cross(b, c))
        product = la * lb * lc + dot("fi,fi->f", a, b) * lc + dot("fi,fi->f", b, c) * la + dot("fi,fi->f", c, a) * lb
        found[i] = abs(2 * np.arctan2(volume, product).sum()) > 2 * np.pi
    return found
