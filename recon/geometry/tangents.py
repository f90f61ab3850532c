"""Tangent space at the vertices of a mesh with texture coordinates, as MikkTSpace has it."""

import numpy as np
from jaxtyping import Float, Float64, Int

SHORTEST = 1e-30


def vertex_tangents(
    vertices: Float[np.ndarray, "v 3"],
    normals: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    places: Float[np.ndarray, "v 2"],
) -> Float64[np.ndarray, "v 3"]:
    """Unit tangents: where a texture's right is, orthogonal to the normals.

    Each corner of a face has the direction in which the face's first texture coordinate grows, in the plane of its
    normal; a vertex has their sum, weighted by the corners' angles (Mikkelsen 2008, section 3). glTF and Blender take
    this tangent space for a normal map's.

    Args:
        vertices, normals: with one entry for each pair of place and texture coordinate; normals of length 1.
        places: on the texture, to the right and upwards, which no face has mirrored.
    """
    corners, at = vertices[faces].astype(np.float64), places[faces]
    (edge1, edge2), (right1, right2) = ((each[:, 1] - each[:, 0], each[:, 2] - each[:, 0]) for each in (corners, at))
    along = right2[:, 1:] * edge1 - right1[:, 1:] * edge2
    sums = np.zeros((len(vertices), 3))
    for k in range(3):
        normal = normals[faces[:, k]]
        ways = [_unit(_in_plane(corners[:, (k + step) % 3] - corners[:, k], normal)) for step in (1, 2)]
        angle = np.arccos((ways[0] * ways[1]).sum(axis=1).clip(-1, 1))
        weighted = angle[:, None] * _unit(_in_plane(along, normal))
        for axis in range(3):
            sums[:, axis] += np.bincount(faces[:, k], weighted[:, axis], minlength=len(vertices))
    # A vertex whose faces have no area has none: any direction across its normal.
    aside = np.cross(normals, np.where(np.abs(normals[:, :1]) < 0.9, (1.0, 0, 0), (0, 1.0, 0)))
    return _unit(np.where(np.linalg.norm(sums, axis=1, keepdims=True) > SHORTEST, _in_plane(sums, normals), aside))


def _in_plane(vectors: Float[np.ndarray, "n 3"], normals: Float[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
    return vectors - normals * (vectors * normals).sum(axis=1, keepdims=True)


def _unit(vectors: Float[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), SHORTEST)
