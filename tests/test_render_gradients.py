"""Derivatives that the renderer writes out, against finite differences."""

import torch
from shapes import bumpy, ring
from torch import Tensor
from torch.autograd import gradcheck

from recon.camera import Cameras
from recon.render.antialias import find_crossings
from recon.render.box_filter import average
from recon.render.intersect import interpolate, intersect
from recon.render.normals import face_normals, unit, vertex_normals
from recon.render.rasterize import on_screen, visible_faces


def small_scene() -> tuple[Tensor, Tensor, Cameras]:
    vertices, faces = bumpy(1)
    # Off the axes, so that no vertex lies on a line through pixel centres, where distances have a kink.
    vertices = vertices.double() + torch.tensor([0.013, 0.027, 0.041])
    return vertices.requires_grad_(), faces, ring(2, 9, 11).to(torch.float64)


def test_intersections_and_what_is_interpolated_there() -> None:
    vertices, faces, cameras = small_scene()
    seen = visible_faces(on_screen(vertices, faces, cameras), faces, cameras.height, cameras.width)
    attributes = torch.rand(2, len(vertices), dtype=torch.float64, requires_grad=True)

    def at_hits(vertices: Tensor, attributes: Tensor) -> tuple[Tensor, ...]:
        hits = intersect(vertices, faces, cameras, seen)
        return hits.bary, hits.depth, hits.points, interpolate(attributes, hits)

    assert (seen >= 0).sum() > 20
    assert gradcheck(at_hits, (vertices, attributes))


def test_hits_lie_on_their_faces_and_in_their_pixels() -> None:
    vertices, faces, cameras = small_scene()
    seen = visible_faces(on_screen(vertices, faces, cameras), faces, cameras.height, cameras.width)
    hits = intersect(vertices, faces, cameras, seen)
    torch.testing.assert_close(interpolate(vertices.T, hits), hits.points)
    pixels = cameras.project(hits.points.T)[hits.view, torch.arange(len(hits.view))]
    line = hits.pixel // cameras.width
    expected = torch.stack([hits.pixel % cameras.width + 0.5, line % cameras.height + 0.5, hits.depth], dim=1)
    torch.testing.assert_close(pixels, expected)


def test_distances_of_crossings() -> None:
    vertices, faces, cameras = small_scene()
    screen = on_screen(vertices, faces, cameras)
    seen = visible_faces(screen, faces, cameras.height, cameras.width)
    hits = intersect(vertices.detach(), faces, cameras, seen)
    depth = torch.zeros(seen.numel(), dtype=torch.float64).index_copy(0, hits.pixel, hits.depth).view(seen.shape)

    def distances(vertices: Tensor) -> Tensor:
        return find_crossings(vertices, faces, cameras, on_screen(vertices, faces, cameras), depth).distance

    assert len(distances(vertices)) > 10
    # By a random direction; `test_gradient_against_finite_differences` takes all.
    assert gradcheck(distances, vertices, fast_mode=True)


def test_vertex_normals() -> None:
    vertices, faces, _ = small_scene()
    assert gradcheck(lambda points: vertex_normals(points, faces), vertices)
    summed = torch.zeros_like(vertices)
    for corner in faces.unbind(1):
        summed = summed.index_add(0, corner, face_normals(vertices, faces))
    torch.testing.assert_close(vertex_normals(vertices, faces), torch.nn.functional.normalize(summed, dim=1))


def test_unit_vectors() -> None:
    vectors = torch.randn(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert gradcheck(unit, vectors)
    torch.testing.assert_close(unit(vectors).norm(dim=0), torch.ones(7, dtype=torch.float64))
    # Shorter ones than 1e-12 are divided by that.
    short = torch.tensor([[1e-11, 1e-12, 5e-13], [0, 0, 0], [0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(unit(short)[0], torch.tensor([1, 1, 0.5], dtype=torch.float64))
    nothing = torch.zeros(3, 2, requires_grad=True)
    unit(nothing).sum().backward()
    assert nothing.grad is not None and not unit(nothing).any() and nothing.grad.isfinite().all()


def test_box_filter_within_a_margin() -> None:
    planes = torch.rand(2, 1, 8, 11, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda image: average(image, 3, 1), planes)
    torch.testing.assert_close(average(planes, 3, 1), torch.nn.functional.avg_pool2d(planes[..., 1:-1, 1:-1], 3))
    assert torch.equal(average(planes, 1), planes)
