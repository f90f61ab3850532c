"""The edges of small meshes, written down."""

import torch

from recon.render.edges import mesh_edges


def described(faces: torch.Tensor) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Of every edge the faces at it, each with the corner opposite."""
    edges = mesh_edges(faces)
    rows = zip(edges.vertices.tolist(), edges.faces.tolist(), edges.opposite.tolist(), strict=True)
    return {
        (start, end): [(face, corner) for face, corner in zip(around, opposite, strict=True) if face != -1]
        for (start, end), around, opposite in rows
    }


def test_the_edges_of_a_tetrahedron() -> None:
    faces = torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    assert mesh_edges(faces).closed
    assert described(faces) == {
        (0, 1): [(0, 2), (1, 3)],
        (0, 2): [(0, 1), (3, 3)],
        (0, 3): [(1, 1), (3, 2)],
        (1, 2): [(0, 0), (2, 3)],
        (1, 3): [(1, 0), (2, 2)],
        (2, 3): [(2, 1), (3, 0)],
    }


def test_a_border_has_one_face_and_an_edge_of_many_keeps_the_first_two() -> None:
    faces = torch.tensor([[4, 0, 1], [1, 0, 2], [0, 1, 3]])
    assert not mesh_edges(faces).closed
    assert described(faces) == {
        (0, 1): [(0, 4), (1, 2)],
        (0, 2): [(1, 1)],
        (0, 3): [(2, 1)],
        (0, 4): [(0, 1)],
        (1, 2): [(1, 0)],
        (1, 3): [(2, 0)],
        (1, 4): [(0, 0)],
    }


def test_edges_are_found_once_for_a_mesh() -> None:
    faces = torch.tensor([[0, 1, 2]])
    assert mesh_edges(faces) is mesh_edges(faces)
    assert mesh_edges(faces) is not mesh_edges(faces.clone())
