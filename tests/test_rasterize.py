import numpy as np
import pytest
import torch
from pytorch3d_golden import golden, golden_camera
from shapes import ring

import recon.render.rasterize as rasterize_module
from recon.camera import Cameras
from recon.render.rasterize import on_screen, rasterize, visible_faces
from recon.render.renderer import render
from recon.surface.icosphere import icosphere

GOLDEN = golden()


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
    alpha = render(vertices, faces, golden_camera(i), albedo=torch.ones_like(vertices)).alpha
    (alpha.flatten() * torch.linspace(-1, 1, 48 * 64)).sum().backward()
    expected = torch.tensor(GOLDEN[f"soft_alpha_grad_{i}"])
    assert vertices.grad is not None
    cosine = torch.nn.functional.cosine_similarity(vertices.grad.flatten(), expected.flatten(), dim=0)
    assert cosine > 0.8
    assert (alpha[0] - torch.tensor(GOLDEN[f"soft_alpha_{i}"])).abs().mean() < 0.03  # soft alpha is dilated


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
    alpha = rasterize(vertices, faces, ring(2, 40, 40)).pix_to_face >= 0
    for row in alpha.flatten(0, 1):
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
    assert image.alpha.sum() == 0


def soup(seed: int, count: int = 80) -> tuple[torch.Tensor, torch.Tensor]:
    """Triangles without order, from such as fit between pixel centres to such as fill the picture; they cross one
    another, share corners or have no area, and some are beside the picture or reach behind the camera."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform([-3, -3, 0], [3, 3, 12], (count, 1, 3))
    corners = centres + np.geomspace(0.02, 3, count)[:, None, None] * rng.normal(size=(count, 3, 3))
    faces = np.arange(3 * count).reshape(-1, 3)
    faces[:5, 0], faces[5:8, 0] = faces[10:15, 1], faces[5:8, 1]
    return torch.tensor(corners.reshape(-1, 3)), torch.tensor(faces)


def nearest_faces(
    vertices: np.ndarray, faces: np.ndarray, camera: Cameras, cull: bool
) -> tuple[np.ndarray, np.ndarray]:
    """What each pixel sees, by asking every triangle at every pixel; and where rounding cannot change the answer."""
    rays = np.stack(np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5), axis=-1)
    rays = np.concatenate([rays, np.ones((*rays.shape[:2], 1))], axis=2) @ np.linalg.inv(camera.intrinsics[0].numpy()).T
    best = np.full(rays.shape[:2], -1)
    nearest = np.full(rays.shape[:2], np.inf)
    sure = np.ones(rays.shape[:2], dtype=bool)
    for index, (a, b, c) in enumerate(vertices[faces]):
        turned = np.dot(np.cross(b - a, c - a), a)
        if min(a[2], b[2], c[2]) <= 1e-4 or abs(turned) < 1e-12 or (cull and turned > 0):
            continue
        solution = rays @ np.linalg.inv(np.stack([a, b, c], axis=1)).T
        depth = 1 / solution.sum(axis=2)
        shares = (solution * depth[..., None]).min(axis=2)
        inside = (solution >= 0).all(axis=2)
        sure &= (np.abs(shares) > 1e-4) & ~(inside & (np.abs(depth - nearest) < 1e-5 * depth))
        closer = inside & (depth < nearest)
        best[closer], nearest[closer] = index, depth[closer]
    return best, sure


@pytest.mark.parametrize("cull", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_triangles_without_order_are_seen_as_asking_each_at_each_pixel_says(seed: int, cull: bool) -> None:
    vertices, faces = soup(seed)
    intrinsics = torch.tensor([[[30.0, 0, 11.3], [0, 25, 8.1], [0, 0, 1]]], dtype=torch.float64)
    camera = Cameras(torch.eye(4, dtype=torch.float64)[None], intrinsics, 17, 23)
    expected, sure = nearest_faces(vertices.numpy(), faces.numpy(), camera, cull)
    found = rasterize(vertices, faces, camera, cull)
    assert sure.mean() > 0.9 and len(np.unique(expected)) > 5
    assert np.array_equal(found.pix_to_face[0].numpy()[sure], expected[sure])
    # The pixel lies where its barycentric coordinates say.
    seen = found.pix_to_face[0] >= 0
    there = (found.bary[0][seen][..., None] * vertices[faces[found.pix_to_face[0][seen]]]).sum(1)
    row, column = seen.nonzero().T
    expected_pixels = torch.stack([column + 0.5, row + 0.5, found.zbuf[0][seen]], dim=1)
    torch.testing.assert_close(camera.project(there)[0], expected_pixels, atol=1e-8, rtol=1e-8)
    assert (found.bary[0][~seen] == -1).all() and (found.zbuf[0][~seen] == -1).all()


def test_of_faces_in_one_place_the_first_is_seen() -> None:
    corners = torch.tensor([[-0.5, -0.5, 2], [0, 0.5, 2], [0.5, -0.5, 2]])
    camera = Cameras(torch.eye(4)[None], torch.tensor([[[9.0, 0, 5.3], [0, 9, 5.2], [0, 0, 1]]]), 9, 9)
    faces = torch.tensor([[0, 1, 2], [1, 2, 0], [2, 0, 1]])
    for order in ([0, 1, 2], [2, 1, 0]):
        seen = rasterize(corners, faces[order], camera).pix_to_face.unique().tolist()
        assert seen == [-1, 0]


def test_the_window_of_a_face_is_as_wide_as_the_picture() -> None:
    """One face over all of the picture, to the first and the last row and column."""
    corners = torch.tensor([[-90.0, -90, 2], [0, 90, 2], [90, -90, 2]])
    camera = Cameras(torch.eye(4)[None], torch.tensor([[[9.0, 0, 5.3], [0, 9, 5.2], [0, 0, 1]]]), 7, 11)
    assert (rasterize(corners, torch.tensor([[0, 1, 2]]), camera).pix_to_face == 0).all()


@pytest.mark.parametrize("first", range(3))
@pytest.mark.parametrize("second", range(3))
def test_an_edge_through_pixel_centres_leaves_no_hole(first: int, second: int) -> None:
    """Whichever barycentric coordinates of the two faces are zero along it."""
    vertices = torch.tensor([[-1.0, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]])
    camera = Cameras(torch.eye(4)[None], torch.tensor([[[7.3, 0, 6.5], [0, 7.3, 6.5], [0, 0, 1]]]), 13, 13)
    faces = torch.stack([torch.tensor([0, 2, 1]).roll(first), torch.tensor([0, 3, 2]).roll(second)])
    assert (rasterize(vertices, faces, camera).pix_to_face >= 0).all()


def test_faces_are_seen_from_outside_only_unless_both_sides_are_wanted() -> None:
    vertices, faces = icosphere(1)
    inside_out, cameras = faces.flip(1), ring(1, 20, 20)
    assert (rasterize(vertices, inside_out, cameras, cull=False).pix_to_face >= 0).any()
    screen = on_screen(vertices, inside_out, cameras)
    nearest = visible_faces(screen, inside_out, 20, 20)
    # The far half of the sphere, which shows its outer side to nobody, is what is left of it.
    assert torch.equal(rasterize(vertices, inside_out, cameras).pix_to_face, nearest)
    assert torch.equal(nearest, visible_faces(screen, inside_out, 20, 20, cull=True))
    assert not torch.equal(nearest, visible_faces(screen, inside_out, 20, 20, cull=False))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([], []),
        ([100], [[100]]),
        ([60, 40], [[60, 40]]),
        ([60, 40, 1], [[60, 40], [1]]),
        ([40, 70, 30, 200, 10], [[40], [70, 30], [200], [10]]),
        ([101, 0, 0, 100], [[101], [0, 0, 100]]),
        ([1] * 250, [[1] * 100, [1] * 100, [1] * 50]),
    ],
)
def test_chunks_hold_as_many_faces_as_fit(
    counts: list[int], expected: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rasterize_module, "MAX_FRAGMENTS", 100)
    numbers = torch.tensor(counts, dtype=torch.long)
    assert [numbers[part].tolist() for part in rasterize_module._chunks(numbers)] == expected
