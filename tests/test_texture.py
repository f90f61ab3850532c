"""Textures on the sphere: the octahedral map, its folds, and what lookups of them are."""

import pytest
import torch

from recon.geometry.octahedral import sphere_points
from recon.model.texture import SphereTexture, octahedral


def directions(count: int) -> torch.Tensor:
    points = torch.randn(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.nn.functional.normalize(points, dim=1)


def filled(sizes: tuple[int, ...], channels: int = 2, falloff: float = 0.5) -> SphereTexture:
    texture, generator = SphereTexture(sizes, falloff, channels).double(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for each in texture.parameters():
            each.copy_(torch.randn(each.shape, generator=generator, dtype=torch.float64))
    return texture


def test_the_octahedral_map_has_an_inverse() -> None:
    points = directions(500)
    places = octahedral(points)
    assert places.abs().max() <= 1
    torch.testing.assert_close(torch.from_numpy(sphere_points(places.numpy())), points)
    torch.testing.assert_close(octahedral(3.7 * points), places)


def test_poles_and_corners() -> None:
    torch.testing.assert_close(
        octahedral(torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]])), torch.tensor([[0.0, 0], [1, 0], [0, -1]])
    )
    below = octahedral(torch.tensor([[0.0, 0, -1]]))
    assert below.abs().tolist() == [[1, 1]]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_textures_have_no_seam(axis: int) -> None:
    """Across the planes in which the octahedron has its edges, two of which are partly borders of the square."""
    texture, points = filled((4, 8)), directions(300)
    points[:, axis] = 0
    step = torch.zeros(3, dtype=torch.float64)
    step[axis] = 1e-7
    torch.testing.assert_close(texture(points + step), texture(points - step), atol=1e-4, rtol=0)


def test_the_south_pole_is_one_point() -> None:
    around = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64) * 1e-9
    values = filled((4, 8))(torch.cat([around, torch.full((4, 1), -1.0, dtype=torch.float64)], dim=1))
    torch.testing.assert_close(values, values[:1].expand(4, -1), atol=1e-6, rtol=0)


def test_one_value_everywhere_is_that_value_everywhere() -> None:
    texture = SphereTexture((4, 8, 16), 1.0, 1)
    with torch.no_grad():
        for each, value in zip(texture.textures, (1.0, 2.0, 4.0), strict=True):
            each.fill_(value)
    torch.testing.assert_close(texture(directions(50).float()), torch.full((50, 1), 3.0))  # 1 + 2 / 2 + 4 / 4


def test_texels_are_found_where_they_lie() -> None:
    texture, size = filled((8,)), 8
    centers = (torch.arange(size, dtype=torch.float64) + 0.5) * 2 / size - 1
    places = torch.cartesian_prod(centers, centers).flip(1)  # (x, y), row by row
    torch.testing.assert_close(
        texture(torch.from_numpy(sphere_points(places.numpy()))), texture.textures[0].flatten(1).T
    )


def test_the_gradient_is_that_of_finite_differences() -> None:
    texture, points = filled((4, 8), 1), directions(12).requires_grad_()
    torch.autograd.gradcheck(texture, (points,))
    texture(points).sum().backward()
    assert all(each.grad.abs().sum() > 0 for each in texture.parameters())
