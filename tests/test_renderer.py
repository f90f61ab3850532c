from dataclasses import replace

import numpy as np
import pytest
import torch
from shapes import bumpy, ring

from recon.camera import Cameras
from recon.config import RunConfig
from recon.model.model import Model
from recon.render.normals import vertex_normals
from recon.render.renderer import Rendering, render
from recon.render.shade import separate_irradiance
from recon.surface.icosphere import icosphere


def white(vertices: torch.Tensor, faces: torch.Tensor, cameras: Cameras, **options: object) -> Rendering:
    return render(vertices, faces, cameras, albedo=torch.ones_like(vertices), **options)


def averaged(image: torch.Tensor, factor: int) -> torch.Tensor:
    n, height, width = image.shape[:3]
    return image.reshape(n, height // factor, factor, width // factor, factor, -1).mean(dim=(2, 4))


def test_flash_falls_off_with_the_squared_distance() -> None:
    faces = torch.tensor([[0, 1, 2]])
    vertices = torch.tensor([[-9.0, -9, 0], [0, 9, 0], [9, -9, 0]])
    intrinsics = torch.tensor([[[50.0, 0, 10.5], [0, 50, 10.5], [0, 0, 1]]]).expand(2, 3, 3)
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[:, 2, 3] = torch.tensor([-2.0, -4.0])
    radiance = white(vertices, faces, Cameras(poses, intrinsics, 21, 21), cull=False, smooth=False).radiance
    assert radiance[:, 10, 10, 0].tolist() == pytest.approx([1 / 4, 1 / 16])


def test_shading_of_a_sphere_is_brightest_at_its_nearest_point() -> None:
    cameras = ring(1, 60, 60)
    image = white(*icosphere(5), cameras, antialias=False)
    distance = cameras.centers.norm().item() - 1
    assert image.radiance.max().item() == pytest.approx(1 / distance**2, rel=2e-3)


def test_antialiased_coverage_comes_close_to_the_exact_one() -> None:
    mesh, cameras = bumpy(5), ring(4, 64, 64)
    exact = averaged(white(*mesh, cameras.scaled(8), antialias=False).alpha, 8)[..., 0]
    smooth = (white(*mesh, cameras).alpha - exact).abs().mean()
    hard = (white(*mesh, cameras, antialias=False).alpha - exact).abs().mean()
    assert smooth < hard / 6


def lit(cameras: Cameras, lights: torch.Tensor) -> Cameras:
    return replace(cameras, lights=lights.to(cameras.intrinsics))


def at_cameras(cameras: Cameras) -> Cameras:
    """Point lights where the flashes are, given as lights of their own."""
    return lit(cameras, torch.cat([cameras.centers, torch.ones(len(cameras), 1)], dim=1))


@pytest.mark.parametrize("reflectance", ["constant", "microfacet"])
def test_a_point_light_at_the_camera_is_its_flash(reflectance: str) -> None:
    """In value and gradient."""
    (vertices, faces), cameras = bumpy(3), ring(2, 32, 32).to(torch.float64)
    vertices = vertices.double().requires_grad_()
    model = Model(RunConfig(reflectance=reflectance), np.eye(4), 1.0).double()
    attributes = model.reflectance.attributes(vertices.detach()).detach()
    weights = torch.rand(2, 32, 32, 3, dtype=torch.float64)
    images, gradients = [], []
    for each in (cameras, at_cameras(cameras)):
        image = render(vertices, faces, each, albedo=attributes, shader=model.reflectance.shade).radiance
        images.append(image)
        gradients += torch.autograd.grad((weights * image).sum(), vertices)
    torch.testing.assert_close(images[0], images[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-5)


def test_a_distant_light_does_not_fall_off_and_leaves_the_far_side_dark() -> None:
    mesh, cameras = icosphere(5), ring(1, 60, 60)
    across = torch.linalg.cross(cameras.centers, torch.tensor([[0.0, 0, 1]]))
    aside = torch.nn.functional.normalize(across, dim=1)
    image = white(*mesh, lit(cameras, torch.cat([aside, torch.zeros(1, 1)], dim=1)), antialias=False)
    expected = (image.normals[0] @ aside[0]).clamp(min=0)
    torch.testing.assert_close(image.radiance[0, ..., 0], expected, atol=2e-3, rtol=0)
    dark = (image.alpha[0] > 0) & (image.normals[0] @ aside[0] < -0.01)
    assert dark.sum() > 100 and image.radiance[0][dark].max() == 0


def test_a_near_light_falls_off_from_where_it_is() -> None:
    faces = torch.tensor([[0, 1, 2]])
    vertices = torch.tensor([[-9.0, -9, 0], [0, 9, 0], [9, -9, 0]])
    intrinsics = torch.tensor([[[50.0, 0, 10.5], [0, 50, 10.5], [0, 0, 1]]])
    pose = torch.eye(4)[None]
    pose[:, 2, 3] = -2
    cameras = Cameras(pose, intrinsics, 21, 21, torch.tensor([[3.0, 0, -4, 1]]))
    radiance = white(vertices, faces, cameras, cull=False, smooth=False).radiance
    assert radiance[0, 10, 10, 0].item() == pytest.approx(0.8 / 25)


def test_a_window_keeps_its_light() -> None:
    (vertices, faces), cameras = bumpy(3), ring(2, 40, 40).to(torch.float64)
    lights = torch.tensor([[0.6, 0, 0.8, 0], [1.0, 2, 3, 1]])
    offsets = torch.tensor([[3, 5], [12, 14]])
    whole = white(vertices.double(), faces, lit(cameras, lights), samples=2)
    window = white(vertices.double(), faces, lit(cameras, lights).cropped(offsets, 20, 20), samples=2)
    for i, (row, column) in enumerate(offsets.tolist()):
        expected = whole.radiance[i, row : row + 20, column : column + 20]
        torch.testing.assert_close(window.radiance[i], expected, atol=1e-6, rtol=0)


def test_more_samples_come_closer_to_the_exact_image() -> None:
    mesh, cameras = bumpy(4), ring(2, 40, 40)
    exact = averaged(white(*mesh, cameras.scaled(8), antialias=False).radiance, 8)
    errors = [(white(*mesh, cameras, samples=k).radiance - exact).abs().mean() for k in (1, 2, 4)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


@pytest.mark.parametrize("samples", [1, 2])
def test_a_window_equals_the_slice_of_the_whole_image(samples: int) -> None:
    (vertices, faces), cameras = bumpy(4), ring(3, 50, 60)
    offsets = torch.tensor([[0, 0], [13, 17], [26, 30]])
    whole = white(vertices.double(), faces, cameras.to(torch.float64), samples=samples)
    window = white(vertices.double(), faces, cameras.to(torch.float64).cropped(offsets, 24, 30), samples=samples)
    for i, (row, column) in enumerate(offsets.tolist()):
        expected = whole.radiance[i, row : row + 24, column : column + 30]
        torch.testing.assert_close(window.radiance[i], expected, atol=1e-6, rtol=0)


def test_background_shows_where_the_mesh_does_not() -> None:
    mesh, cameras = bumpy(3), ring(2, 32, 32)
    black, blue = white(*mesh, cameras), white(*mesh, cameras, background=torch.tensor([0.0, 0.0, 2.0]))
    difference = blue.radiance[..., 2] - black.radiance[..., 2]
    torch.testing.assert_close(difference, 2 * (1 - black.alpha))


def test_depth_and_normals() -> None:
    vertices, faces = icosphere(5)
    pose = torch.tensor(np.diag([1.0, -1, -1, 1]))[None].float()
    pose[0, 2, 3] = 3
    cameras = Cameras(pose, torch.tensor([[[50.0, 0, 20.5], [0, 50, 20.5], [0, 0, 1]]]), 41, 41)
    image = white(vertices, faces, cameras, samples=2)
    assert image.depth[0, 20, 20].item() == pytest.approx(2, abs=1e-2)
    torch.testing.assert_close(image.normals[0, 20, 20], torch.tensor([0.0, 0, 1]), atol=1e-2, rtol=0)
    assert image.depth[0, 0, 0] == 0


def test_vertex_normals_of_a_sphere_are_its_vertices() -> None:
    vertices, faces = icosphere(4)
    torch.testing.assert_close(vertex_normals(vertices, faces), vertices, atol=1e-2, rtol=0)


def test_gradient_against_finite_differences() -> None:
    """Every vertex, silhouettes included: alpha has no other gradient than theirs."""
    vertices, faces = bumpy(1)
    vertices = vertices.double()
    cameras = ring(2, 24, 24).to(torch.float64)
    weights = torch.rand(2, 24, 24, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def losses(points: torch.Tensor) -> torch.Tensor:
        image = white(points, faces, cameras)
        return torch.stack([(image.radiance * weights).sum(), (image.alpha[..., None] * weights).sum()])

    vertices.requires_grad_()
    of_radiance, of_coverage = losses(vertices)
    gradients = torch.stack(
        [
            torch.autograd.grad(of_radiance, vertices, retain_graph=True)[0],
            torch.autograd.grad(of_coverage, vertices)[0],
        ]
    )
    assert (gradients.abs().amax(dim=(1, 2)) > 0.1).all()
    step = 1e-7
    with torch.no_grad():
        for index in np.ndindex(*vertices.shape):
            shifted = [vertices.clone(), vertices.clone()]
            shifted[0][index] += step
            shifted[1][index] -= step
            expected = (losses(shifted[0]) - losses(shifted[1])) / (2 * step)
            torch.testing.assert_close(gradients[:, *index], expected, rtol=1e-4, atol=1e-5)


def test_gradient_moves_a_silhouette_towards_its_target() -> None:
    vertices, faces = icosphere(4)
    cameras = ring(4, 40, 40)
    target = white(0.7 * vertices, faces, cameras).alpha
    size = torch.tensor(0.8, requires_grad=True)
    optimizer = torch.optim.Adam([size], lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        (white(size * vertices, faces, cameras).alpha - target).abs().mean().backward()
        optimizer.step()
    assert size.item() == pytest.approx(0.7, abs=0.01)


def test_angles_with_camera_and_half_vector() -> None:
    """The camera straight above, the light at 60 degrees; then both at 30 degrees on either side."""
    points, up = torch.zeros(2, 3, dtype=torch.float64), torch.tensor([[0.0, 0, 1]] * 2, dtype=torch.float64)
    sine, cosine = 0.75**0.5, 0.5
    centers = torch.tensor([[0, 0, 3.0], [-1.0, 0, 2 * sine]], dtype=torch.float64)
    lights = torch.tensor([[2 * sine, 0, 2 * cosine, 1], [0.5, 0, sine, 0]], dtype=torch.float64)
    irradiance, of_light, angles = separate_irradiance(points, up, centers, lights)
    torch.testing.assert_close(of_light, torch.tensor([cosine, sine], dtype=torch.float64))
    torch.testing.assert_close(irradiance, torch.tensor([cosine / 4, sine], dtype=torch.float64))
    torch.testing.assert_close(angles.view, torch.tensor([1, sine], dtype=torch.float64))
    torch.testing.assert_close(angles.half, torch.tensor([sine, 1], dtype=torch.float64))
    torch.testing.assert_close(angles.difference, torch.tensor([sine, sine], dtype=torch.float64))


def test_depth_is_that_of_the_samples_that_see_something() -> None:
    """A wall over half of each pixel of a column."""
    vertices = torch.tensor([[-9.0, -9, 2], [-9, 9, 2], [0.1, 9, 2], [0.1, -9, 2]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    cameras = Cameras(torch.eye(4)[None], torch.tensor([[[10.0, 0, 5], [0, 10, 5], [0, 0, 1]]]), 10, 10)
    image = white(vertices, faces, cameras, samples=2, antialias=False)
    assert image.alpha[0, :, 5].tolist() == [0.5] * 10
    torch.testing.assert_close(image.depth[0, :, :6], torch.full((10, 6), 2.0))
    torch.testing.assert_close(image.normals[0, :, :6], torch.tensor([0.0, 0, -1]).expand(10, 6, 3))
    assert not image.depth[0, :, 6:].any() and not image.normals[0, :, 6:].any()


def test_normals_are_interpolated_and_insides_left_out_unless_it_is_said_otherwise() -> None:
    (vertices, faces), cameras = bumpy(2), ring(1, 20, 20)
    image = white(vertices, faces, cameras).radiance
    assert torch.equal(image, white(vertices, faces, cameras, smooth=True, cull=True, antialias=True).radiance)
    assert not torch.equal(image, white(vertices, faces, cameras, smooth=False).radiance)
    inside_out = white(vertices, faces.flip(1), cameras)
    assert torch.equal(inside_out.depth, white(vertices, faces.flip(1), cameras, cull=True).depth)
    assert not torch.equal(inside_out.depth, white(vertices, faces.flip(1), cameras, cull=False).depth)
