from pathlib import Path

import numpy as np
import pytest
import torch
from shapes import ring

import recon.render.rasterize as rasterize_module
from recon.camera import Cameras
from recon.render.rasterize import on_screen, rasterize, visible_faces
from recon.render.renderer import render
from recon.surface.icosphere import icosphere

GOLDEN = np.load(Path(__file__).parent / "data" / "pytorch3d_0.7.9.npz")


def golden_camera(i: int) -> Cameras:
    pose, intrinsics = GOLDEN[f"camera_to_world_{i}"], GOLDEN[f"intrinsics_{i}"]
    return Cameras(torch.tensor(pose[None]).float(), torch.tensor(intrinsics[None]).float(), 48, 64)


def golden_mesh() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(GOLDEN["vertices"]), torch.tensor(GOLDEN["faces"])


@pytest.mark.parametrize("i", range(3))
def test_parity_with_pytorch3d(i: int) -> None:
    fragments = rasterize(*golden_mesh(), golden_camera(i), cull=False)
    expected = torch.tensor(GOLDEN[f"pix_to_face_{i}"])
    same = fragments.pix_to_face[0] == expected
    assert same.float().mean() >= 0.999
    torch.testing.assert_close(fragments.zbuf[0][same], torch.tensor(GOLDEN[f"zbuf_{i}"])[same], atol=1e-4, rtol=0)
    torch.testing.assert_close(fragments.bary[0][same], torch.tensor(GOLDEN[f"bary_{i}"])[same], atol=1e-4, rtol=0)


@pytest.mark.parametrize("i", range(3))
def test_silhouette_gradient_points_where_the_soft_rasterisers_does(i: int) -> None:
    vertices, faces = golden_mesh()
    vertices.requires_grad_()
    coverage = render(vertices, faces, golden_camera(i), albedo=torch.ones_like(vertices)).coverage
    (coverage.flatten() * torch.linspace(-1, 1, 48 * 64)).sum().backward()
    expected = torch.tensor(GOLDEN[f"soft_alpha_grad_{i}"])
    assert vertices.grad is not None
    cosine = torch.nn.functional.cosine_similarity(vertices.grad.flatten(), expected.flatten(), dim=0)
    assert cosine > 0.8
    assert (coverage[0] - torch.tensor(GOLDEN[f"soft_alpha_{i}"])).abs().mean() < 0.03  # soft alpha is dilated


def test_culling_a_closed_mesh_changes_nothing() -> None:
    vertices, faces = icosphere(3)
    cameras = ring(3, 40, 56)
    assert torch.equal(
        rasterize(vertices, faces, cameras).pix_to_face, rasterize(vertices, faces, cameras, cull=False).pix_to_face
    )


def test_views_are_independent_of_the_batch() -> None:
    vertices, faces = icosphere(3)
    cameras = ring(4, 33, 47)
    together = rasterize(vertices, faces, cameras).zbuf
    for i in range(4):
        assert torch.equal(together[i], rasterize(vertices, faces, cameras[[i]]).zbuf[0])


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    vertices, faces = icosphere(1)
    cameras = ring(2, 64, 64)
    screen = on_screen(vertices, faces, cameras)
    whole = visible_faces(screen, faces, 64, 64)
    monkeypatch.setattr(rasterize_module, "MAX_FRAGMENTS", 100)
    assert torch.equal(whole, visible_faces(screen, faces, 64, 64))


def test_depth_of_a_sphere_is_exact() -> None:
    vertices, faces = icosphere(6)
    eye = torch.eye(4)[None]
    eye[0, 2, 3] = -3
    intrinsics = torch.tensor([[[50.0, 0, 20.5], [0, 50, 15.5], [0, 0, 1]]])
    fragments = rasterize(vertices, faces, Cameras(eye, intrinsics, 31, 41))
    assert fragments.zbuf[0, 15, 20].item() == pytest.approx(2, abs=1e-3)
    assert fragments.pix_to_face[0, 0, 0] == -1


def test_no_pinholes_between_subpixel_triangles() -> None:
    vertices, faces = icosphere(5)
    coverage = rasterize(vertices, faces, ring(2, 40, 40)).pix_to_face >= 0
    for row in coverage.flatten(0, 1):
        seen = row.nonzero().flatten()
        assert len(seen) == 0 or row[seen[0] : seen[-1] + 1].all()


def test_faces_behind_the_camera_are_not_drawn() -> None:
    vertices, faces = icosphere(1)
    pose = torch.eye(4)[None]
    pose[0, 2, 3] = 5  # the sphere lies behind
    intrinsics = torch.tensor([[[50.0, 0, 20], [0, 50, 20], [0, 0, 1]]])
    assert (rasterize(vertices, faces, Cameras(pose, intrinsics, 40, 40)).pix_to_face == -1).all()


def test_an_empty_image_renders_as_background() -> None:
    vertices, faces = icosphere(1)
    pose = torch.eye(4)[None]
    pose[0, 2, 3] = 5
    cameras = Cameras(pose, torch.tensor([[[50.0, 0, 20], [0, 50, 20], [0, 0, 1]]]), 40, 40)
    image = render(vertices, faces, cameras, albedo=torch.ones_like(vertices), background=torch.tensor([0.1, 0.2, 0.3]))
    torch.testing.assert_close(image.radiance[0, 7, 7], torch.tensor([0.1, 0.2, 0.3]))
    assert image.coverage.sum() == 0
