import numpy as np
import pytest
import trimesh

from recon.evaluation.certificate import Certificate, certify
from recon.geometry.self_intersection import self_intersections


def of(mesh: trimesh.Trimesh) -> Certificate:
    return certify(np.asarray(mesh.vertices), np.asarray(mesh.faces))


def two(first: trimesh.Trimesh, second: trimesh.Trimesh) -> trimesh.Trimesh:
    return trimesh.util.concatenate([first, second])


SPHERE = trimesh.creation.icosphere(subdivisions=3)


def test_a_sphere_is_all_that_is_promised() -> None:
    determinants = np.linspace(0.3, 2, len(SPHERE.vertices))
    assert certify(SPHERE.vertices, SPHERE.faces, determinants) == Certificate(
        vertices=642,
        faces=1280,
        watertight=True,
        edge_manifold=True,
        vertex_manifold=True,
        components=1,
        genus=0,
        smallest_jacobian_determinant=0.3,
        self_intersections=0,
    )


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_scale_and_place_do_not_matter(scale: float) -> None:
    certificate = certify(SPHERE.vertices * scale + 10 * scale, SPHERE.faces)
    assert (certificate.self_intersections, certificate.genus) == (0, 0)


def test_genus_counts_handles_of_all_components() -> None:
    torus = trimesh.creation.torus(1, 0.3, major_sections=24, minor_sections=12)
    apart = torus.copy().apply_translation([5, 0, 0])
    assert (of(torus).genus, of(torus).components) == (1, 1)
    assert (of(two(torus, apart)).genus, of(two(torus, apart)).components) == (2, 2)


def test_a_hole_is_not_watertight_but_manifold() -> None:
    certificate = certify(SPHERE.vertices, SPHERE.faces[1:])
    assert not certificate.watertight
    assert certificate.edge_manifold and certificate.vertex_manifold
    assert certificate.genus is None


def test_a_flipped_face_is_not_watertight() -> None:
    faces = SPHERE.faces.copy()
    faces[7] = faces[7, ::-1]
    certificate = certify(SPHERE.vertices, faces)
    assert not certificate.watertight
    assert certificate.edge_manifold and certificate.vertex_manifold


def test_three_faces_at_an_edge_are_not_edge_manifold() -> None:
    vertices = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [-1, -1, 0]], dtype=float)
    certificate = certify(vertices, np.array([[0, 1, 2], [0, 1, 3], [0, 1, 4]]))
    assert not certificate.edge_manifold
    assert not certificate.watertight


def test_two_solids_that_share_a_vertex_are_not_vertex_manifold() -> None:
    first = trimesh.creation.icosphere(subdivisions=1)
    other = first.copy().apply_translation([0, 0, 2.5])
    joint = two(first, other)
    top, bottom = first.vertices[:, 2].argmax(), len(first.vertices) + first.vertices[:, 2].argmin()
    faces = np.where(joint.faces == bottom, top, joint.faces)
    certificate = certify(joint.vertices, faces)
    assert certificate.watertight and certificate.edge_manifold
    assert not certificate.vertex_manifold
    assert certificate.genus is None


def test_unused_vertices_change_nothing() -> None:
    vertices = np.concatenate([[[9.0, 9, 9]], SPHERE.vertices])
    certificate = certify(vertices, SPHERE.faces + 1)
    assert (certificate.vertices, certificate.genus, certificate.vertex_manifold) == (642, 0, True)


def test_the_sentence_says_what_is_wrong() -> None:
    assert "not watertight" in certify(SPHERE.vertices, SPHERE.faces[1:]).sentence()
    assert "genus 0" in of(SPHERE).sentence()


TRIANGLE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=float)


def pairs(*triangles: np.ndarray) -> int:
    """Intersecting pairs of triangles that share vertices where these are equal."""
    corners, index = np.unique(np.concatenate(triangles), axis=0, return_inverse=True)
    return len(self_intersections(corners, index.reshape(-1, 3)))


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        pytest.param([[0.2, 0.2, -1], [0.3, 0.2, 1], [0.2, 0.3, 1]], 1, id="pierced"),
        pytest.param([[0.2, 0.2, 0.1], [0.3, 0.2, 1], [0.2, 0.3, 1]], 0, id="above"),
        pytest.param([[2, 2, -1], [2.1, 2, 1], [2, 2.1, 1]], 0, id="beside"),
        pytest.param([[0.2, 0.2, 0], [0.3, 0.2, 1], [0.2, 0.3, 1]], 0, id="touching with a corner"),
        pytest.param([[0.1, 0.1, 0], [2, 0.1, 0], [0.1, 2, 0]], 1, id="overlapping in one plane"),
        pytest.param([[1, 1, 0], [2, 1, 0], [1, 2, 0]], 0, id="apart in one plane"),
        pytest.param([[0.1, 0.1, 0], [0.2, 0.1, 0], [0.1, 0.2, 0]], 1, id="inside in one plane"),
        pytest.param([[0, 0, 0], [0, 0, 1], [-1, 0, 1]], 0, id="common vertex"),
        pytest.param([[0, 0, 0], [0.5, 0.5, 1], [0.5, 0.2, -1]], 1, id="common vertex and crossing"),
        pytest.param([[0, 0, 0], [-1, 0, 0], [0, -1, 0]], 0, id="common vertex in one plane"),
        pytest.param([[0, 0, 0], [0.3, 0.1, 0], [0.1, 0.3, 0]], 1, id="common vertex and overlapping"),
        pytest.param([[1, 0, 0], [0, 0, 0], [0, -1, 0]], 0, id="common edge, flat"),
        pytest.param([[1, 0, 0], [0, 0, 0], [0, 1, 1e-6]], 0, id="common edge, nearly folded"),
        pytest.param([[1, 0, 0], [0, 0, 0], [0.1, 0.5, 0]], 1, id="common edge, folded flat"),
        pytest.param([[0, 0, 0], [0, 1, 0], [1, 0, 0]], 1, id="the same triangle"),
    ],
)
def test_pairs_of_triangles(other: list[list[float]], expected: int) -> None:
    assert pairs(TRIANGLE, np.array(other, dtype=float)) == expected


@pytest.mark.slow
def test_random_triangles_agree_with_edges_that_pierce() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 600, 3, 3))
    found = np.array([pairs(*pair) for pair in zip(a, b, strict=True)], dtype=bool)
    expected = np.zeros(600, dtype=bool)
    for i in range(3):
        expected |= pierces(a[:, i], a[:, i - 1], b) | pierces(b[:, i], b[:, i - 1], a)
    assert 0.2 < expected.mean() < 0.4
    assert (found == expected).all()


def pierces(p: np.ndarray, q: np.ndarray, triangle: np.ndarray) -> np.ndarray:
    """Whether the segments p q cross the triangles' insides: signs of tetrahedra's volumes."""

    def side(*corners: np.ndarray) -> np.ndarray:
        return np.sign(np.linalg.det(np.stack([corner - corners[0] for corner in corners[1:]], axis=1)))

    a, b, c = triangle.transpose(1, 0, 2)
    around = side(p, q, a, b) + side(p, q, b, c) + side(p, q, c, a)
    return (side(a, b, c, p) != side(a, b, c, q)) & (np.abs(around) == 3)


def test_interpenetrating_spheres_meet_only_with_each_other() -> None:
    joint = two(SPHERE, SPHERE.copy().apply_translation([0.7, 0.1, 0.2]))
    found = self_intersections(np.asarray(joint.vertices), np.asarray(joint.faces))
    assert len(found) > 100
    assert (found[:, 0] < 1280).all() and (found[:, 1] >= 1280).all()
    assert len(np.unique(found, axis=0)) == len(found)


def test_a_nested_sphere_does_not_intersect() -> None:
    assert of(two(SPHERE, SPHERE.copy().apply_scale(0.5))).self_intersections == 0


def test_a_folded_surface_intersects_itself() -> None:
    folded = np.array(SPHERE.vertices)
    folded[:, 2] -= 3 * folded[:, 2] * (np.linalg.norm(folded[:, :2], axis=1) < 0.4)
    certificate = certify(folded, np.asarray(SPHERE.faces))
    assert certificate.self_intersections > 0
    assert certificate.genus == 0


def test_triangles_of_very_different_size() -> None:
    large = 100 * np.array([[-1, -1, 0.001], [1, -1, 0.001], [0, 1, 0.001]])
    small = np.array(SPHERE.triangles)
    assert pairs(large, *small) == ((small[:, :, 2].min(axis=1) < 0.1) & (small[:, :, 2].max(axis=1) > 0.1)).sum()


def test_one_face_and_no_candidates() -> None:
    assert len(self_intersections(TRIANGLE, np.array([[0, 1, 2]]))) == 0
    assert pairs(TRIANGLE, TRIANGLE + 5) == 0
