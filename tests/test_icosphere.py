import pytest
import torch

from recon.render.edges import mesh_edges
from recon.surface.icosphere import icosphere


@pytest.mark.parametrize("level", [0, 1, 3])
def test_counts_and_unit_radius(level: int) -> None:
    sphere = icosphere(level)
    assert sphere.vertices.shape == (10 * 4**level + 2, 3)
    assert sphere.faces.shape == (20 * 4**level, 3)
    torch.testing.assert_close(sphere.vertices.norm(dim=1), torch.ones(len(sphere.vertices)))


def test_closed_with_euler_characteristic_two() -> None:
    sphere = icosphere(2)
    edges = mesh_edges(sphere.faces)
    assert edges.closed and (edges.faces >= 0).all()
    assert len(sphere.vertices) - len(edges.vertices) + len(sphere.faces) == 2


def test_faces_are_outward() -> None:
    vertices, faces = icosphere(2)
    a, b, c = vertices[faces].unbind(1)
    assert ((torch.linalg.cross(b - a, c - a) * (a + b + c)).sum(1) > 0).all()


def test_levels_are_nested() -> None:
    assert torch.equal(icosphere(3).vertices[:162], icosphere(2).vertices)


def test_edges_of_an_open_mesh_have_one_face() -> None:
    edges = mesh_edges(torch.tensor([[0, 1, 2], [2, 1, 3]]))
    inner = (edges.vertices == torch.tensor([1, 2])).all(1)
    assert not edges.closed and (edges.faces[~inner, 1] == -1).all()
    assert sorted(edges.faces[inner][0].tolist()) == [0, 1]
    assert sorted(edges.opposite[inner][0].tolist()) == [0, 3]
