"""The octahedral atlas: every point of the sphere has its place, and what the map cuts fits together again."""

import numpy as np
import pytest
import trimesh

from recon.geometry.octahedral import (
    Atlas,
    edge_texels,
    gutter,
    octahedral_atlas,
    padding,
    sphere_points,
    texel_places,
    texture_coordinates,
)
from recon.surface.icosphere import icosphere

LEVELS = range(5)


def sphere(level: int) -> tuple[np.ndarray, np.ndarray]:
    points, faces = icosphere(level)
    return points.numpy(), faces.numpy()


def atlas_of(level: int) -> Atlas:
    return octahedral_atlas(*sphere(level))


def areas(atlas: Atlas) -> np.ndarray:
    a, b, c = atlas.places[atlas.faces].swapaxes(0, 1)
    (x1, y1), (x2, y2) = (b - a).T, (c - a).T
    return (x1 * y2 - y1 * x2) / 2


@pytest.mark.parametrize("level", LEVELS)
def test_triangles_fill_the_square_once_and_none_is_mirrored(level: int) -> None:
    found = areas(atlas_of(level))
    assert found.min() > 0 and found.sum() == pytest.approx(4, abs=1e-9)


@pytest.mark.parametrize("level", LEVELS)
def test_a_vertex_lies_where_its_point_of_the_sphere_does(level: int) -> None:
    atlas = atlas_of(level)
    points = atlas.split(sphere(level)[0])[atlas.vertex]
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    np.testing.assert_allclose(sphere_points(atlas.places), points, atol=1e-6)


@pytest.mark.parametrize("level", LEVELS)
def test_the_split_surface_is_closed_and_is_the_same(level: int) -> None:
    points, faces = sphere(level)
    atlas, whole = octahedral_atlas(points, faces), trimesh.Trimesh(points, faces, process=False)
    split = trimesh.Trimesh(atlas.split(points), atlas.welded(), process=False)
    assert split.is_watertight and split.euler_number == 2
    np.testing.assert_array_equal(split.vertices[: len(points)], whole.vertices)
    assert split.area == pytest.approx(whole.area) and split.volume == pytest.approx(whole.volume)


@pytest.mark.parametrize("level", LEVELS)
def test_points_come_first_and_only_those_of_the_cut_are_repeated(level: int) -> None:
    atlas = atlas_of(level)
    count = atlas.vertex.max() + 1
    np.testing.assert_array_equal(atlas.vertex[:count], np.arange(count))
    places = atlas.places[count:]
    np.testing.assert_allclose(np.abs(places).max(axis=1), 1, atol=1e-12)  # the borders of the square
    assert (np.abs(atlas.places) == 1).all(axis=1).sum() == 4  # the south pole


def test_triangles_that_a_plane_does_not_mirror_are_refused() -> None:
    points, faces = sphere(2)
    turned = points @ trimesh.transformations.rotation_matrix(0.3, [1, 2, 3])[:3, :3].T
    with pytest.raises(ValueError, match="mirror"):
        octahedral_atlas(turned, faces)


@pytest.mark.parametrize("size", [16, 50, 256])
def test_the_map_goes_on_into_the_gutter(size: int) -> None:
    """Neighbours on the texture are neighbours on the sphere, everywhere but beside the corners."""
    border = gutter(size)
    points = sphere_points(texel_places(size))[padding(size)]
    for axis in (0, 1):
        step = np.linalg.norm(np.diff(points, axis=axis), axis=-1)
        assert step.max() < 8 / (size - 2 * border)
    inside = slice(border, size - border)
    count = (size - 2 * border) ** 2
    for fill in (padding(size), *edge_texels(size)):
        np.testing.assert_array_equal(fill[inside, inside].reshape(-1), np.arange(count))


def test_both_sides_of_the_cut_are_filtered_to_one_value() -> None:
    """On the border of the square, between texels, interpolation gives the same from either side."""
    size = 32
    values = sphere_points(texel_places(size))[:, 0][padding(size)]

    def sampled(place: tuple[float, float]) -> float:
        u, v = texture_coordinates(np.array([place]), size)[0] * size - 0.5
        (i, j), (s, t) = (int(v), int(u)), (v % 1, u % 1)
        block = values[i : i + 2, j : j + 2]
        return float(np.array([1 - s, s]) @ block @ np.array([1 - t, t]))

    for along in np.linspace(-0.97, 0.97, 23):
        assert sampled((1, along)) == pytest.approx(sampled((1, -along)), abs=1e-12)
        assert sampled((along, -1)) == pytest.approx(sampled((-along, -1)), abs=1e-12)


def test_the_picture_is_seen_from_above() -> None:
    x, y, up = sphere_points(np.array([[0.5, 0], [0, 0.5], [0, 0]]))
    assert x[0] > 0.7 and y[1] > 0.7 and up[2] == 1
    right, top = texture_coordinates(np.array([[0.5, 0], [0, 0.5]]), 64)
    assert right[0] > 0.5 and right[1] == 0.5 and top[1] < 0.5  # glTF counts from the top
