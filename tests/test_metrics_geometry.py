import numpy as np
import pytest
import trimesh

from recon.geometry.metrics import closest_faces, geometry_metrics

SAMPLES = 4000


def sphere(radius: float = 1.0, level: int = 4) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=level, radius=radius)


def test_a_mesh_has_no_distance_to_itself() -> None:
    metrics = geometry_metrics(sphere(), sphere(), SAMPLES)
    assert metrics.chamfer < 1e-6
    assert metrics.f_score_0_5 == metrics.f_score_1 == 1
    assert metrics.normal_error < 0.01


def test_concentric_spheres_are_their_difference_of_radii_apart() -> None:
    metrics = geometry_metrics(sphere(1.03), sphere(), SAMPLES)
    assert metrics.chamfer == pytest.approx(0.03, rel=0.01)
    assert metrics.accuracy == pytest.approx(metrics.completeness, rel=0.01)
    # The box of the unit sphere has a diagonal of 2 sqrt 3: 0.03 is 0.87% of it.
    assert metrics.chamfer_relative == pytest.approx(0.03 / np.sqrt(12), rel=0.01)
    assert (metrics.f_score_0_5, metrics.f_score_1) == (0, 1)


def test_distances_are_not_squared() -> None:
    near, far = (geometry_metrics(sphere(1 + gap), sphere(), SAMPLES).chamfer for gap in (0.02, 0.04))
    assert far / near == pytest.approx(2, rel=0.01)


def test_a_missing_half_costs_completeness_only() -> None:
    half = sphere()
    half.update_faces(half.triangles_center[:, 2] > 0)
    metrics = geometry_metrics(half, sphere(), SAMPLES)
    assert metrics.accuracy < 1e-6
    assert metrics.completeness > 0.1
    # All of the half is right (precision 1) and half of the sphere is found (recall a little over 0.5).
    assert 2 / 3 < metrics.f_score_0_5 < 0.69


def test_a_turned_mesh_has_the_angle_as_its_normal_error() -> None:
    square = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])
    turned = square.copy()
    turned.apply_transform(trimesh.transformations.rotation_matrix(np.radians(7), [1, 0, 0]))
    assert geometry_metrics(turned, square, SAMPLES).normal_error == pytest.approx(7)


def test_an_inside_out_mesh_has_the_opposite_normals() -> None:
    inverted = sphere()
    inverted.invert()
    assert geometry_metrics(inverted, sphere(), SAMPLES).normal_error == pytest.approx(180, abs=0.01)


def test_the_frame_may_have_any_scale_and_place() -> None:
    moved = [mesh.apply_scale(250).apply_translation([1e4, 0, -3e3]) for mesh in (sphere(1.03), sphere())]
    metrics, unit = geometry_metrics(*moved, SAMPLES), geometry_metrics(sphere(1.03), sphere(), SAMPLES)
    assert metrics.chamfer == pytest.approx(250 * unit.chamfer, rel=1e-6)
    assert metrics.f_score_1 == unit.f_score_1


def test_the_seed_fixes_the_result() -> None:
    first, again, other = (geometry_metrics(sphere(1.1, 2), sphere(), 500, seed) for seed in (3, 3, 4))
    assert first == again != other


def test_the_nearest_face_is_found_near_and_far() -> None:
    rng = np.random.default_rng(0)
    target = trimesh.creation.torus(1, 0.3)
    points = rng.normal(size=(300, 3)) * rng.uniform(0.1, 10, size=(300, 1))
    distances, faces = closest_faces(points, target, rng)
    repeated = np.repeat(points, len(target.faces), axis=0)
    closest = trimesh.triangles.closest_point(np.tile(target.triangles, (300, 1, 1)), repeated)
    exact = np.linalg.norm(closest - repeated, axis=1).reshape(300, -1)
    assert (distances >= exact.min(axis=1) - 1e-12).all()
    assert distances == pytest.approx(exact.min(axis=1), rel=1e-3)
    assert exact[np.arange(300), faces] == pytest.approx(distances)
