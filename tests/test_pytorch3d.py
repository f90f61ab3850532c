"""`render.backend: pytorch3d`, in the environment that `make pytorch3d` makes: `make test-pytorch3d`."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pytorch3d_golden import golden, made
from shapes import bumpy, ring
from torch import Tensor

from benchmarks.shapes import star
from recon.camera import Cameras
from recon.cli import main
from recon.config import RunConfig
from recon.model.model import Model
from recon.surface.icosphere import icosphere

pytest.importorskip("pytorch3d", reason="PyTorch3D is not installed: make test-pytorch3d installs it beside recon")

from recon.render import pytorch3d
from recon.render.renderer import Rendering, render

Mesh = tuple[Tensor, Tensor]

TINY = ["surface.cells=[4]", "surface.steps=2", "train.levels=[1]", "train.checkpoints=1", "texture.sizes=[4,8]"]


def ball() -> Mesh:
    sphere = icosphere(2)
    return 0.7 * sphere.vertices, sphere.faces


def spiked() -> Mesh:
    mesh = star(3)
    return torch.tensor(np.array(mesh.vertices)).float(), torch.tensor(np.array(mesh.faces))


MESHES = {"ball": ball, "bumpy": lambda: bumpy(3), "star": spiked}


def both(mesh: Mesh, cameras: Cameras, **options: bool | int) -> tuple[Rendering, Rendering]:
    """Ours and PyTorch3D's."""
    vertices, faces = mesh
    albedo = 0.5 + 0.4 * torch.sin(3 * vertices)
    mine = render(vertices, faces, cameras, albedo=albedo, **options)
    return mine, pytorch3d.render(vertices, faces, cameras, albedo=albedo, **options)


@pytest.mark.parametrize("i", range(3))
def test_fragments_soft_alpha_and_its_gradient_are_the_golden_ones(i: int) -> None:
    stored, again = golden(), made(i)
    for name, tolerance in {"pix_to_face": 0, "zbuf": 1e-5, "bary": 1e-4, "soft_alpha": 1e-4}.items():
        np.testing.assert_allclose(again[f"{name}_{i}"], stored[f"{name}_{i}"], atol=tolerance, rtol=0)
    gradient = stored[f"soft_alpha_grad_{i}"]
    np.testing.assert_allclose(again[f"soft_alpha_grad_{i}"], gradient, atol=1e-4 * np.abs(gradient).max(), rtol=0)


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("name", MESHES)
def test_hard_pictures_are_ours(name: str, samples: int) -> None:
    ours, theirs = both(MESHES[name](), ring(2, 40, 48), antialias=False, samples=samples)
    same = (ours.alpha - theirs.alpha).abs() < 1e-6
    assert same.float().mean() > 0.999  # but for pixels whose centre lies on a side, to rounding
    torch.testing.assert_close(theirs.radiance[same], ours.radiance[same], atol=1e-4, rtol=0)
    torch.testing.assert_close(theirs.depth[same], ours.depth[same], atol=1e-4, rtol=0)
    torch.testing.assert_close(theirs.normals[same], ours.normals[same], atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", MESHES)
def test_soft_pictures_are_close_to_ours(name: str) -> None:
    ours, theirs = both(MESHES[name](), ring(2, 64, 64), samples=2)
    assert (ours.alpha - theirs.alpha).abs().mean() <= 0.01
    border = torch.nn.functional.max_pool2d(1 - ours.alpha[:, None], 5, stride=1, padding=2)[:, 0]
    inside = border < 1e-3
    assert inside.float().mean() > 0.1
    difference = (ours.radiance - theirs.radiance).abs()[inside].mean()
    assert difference <= 0.01 * ours.radiance[inside].mean()


def test_soft_edges_do_not_shine_beyond_their_alpha() -> None:
    """A white surface before black, evenly lit: its colour is its share of the pixel."""
    vertices, faces = ball()
    image = pytorch3d.render(
        vertices,
        faces,
        ring(2, 32, 32),
        albedo=torch.ones_like(vertices),
        shader=lambda attributes, *light: attributes,
    )
    assert ((image.alpha > 0.1) & (image.alpha < 0.9)).sum() > 20
    torch.testing.assert_close(image.radiance, image.alpha[..., None].expand(-1, -1, -1, 3), atol=1e-4, rtol=0)


def test_a_soft_silhouette_beside_hard_colours() -> None:
    vertices, faces = ball()
    cameras, albedo = ring(1, 24, 24), torch.ones_like(vertices)
    hard = pytorch3d.render(vertices, faces, cameras, albedo=albedo, antialias=False)
    both = pytorch3d.render(vertices, faces, cameras, albedo=albedo, antialias=False, silhouette=True)
    assert torch.equal(hard.radiance, both.radiance)
    assert set(hard.alpha.unique().tolist()) == {0, 1}
    soft = pytorch3d.rasterize(vertices, faces, cameras, pytorch3d.REACH * pytorch3d.SIGMA, 100)
    assert torch.equal(both.alpha, pytorch3d.soft_alpha(soft))
    assert ((both.alpha > 0.1) & (both.alpha < 0.9)).any()


def test_the_gradient_of_an_outline_points_where_ours_does() -> None:
    mesh, cameras = bumpy(2), ring(2, 40, 40)
    weights = torch.linspace(-1, 1, 40 * 40).view(40, 40)
    gradients = []
    for draw in (render, pytorch3d.render):
        vertices = mesh[0].clone().requires_grad_()
        alpha = draw(vertices, mesh[1], cameras, albedo=torch.ones_like(vertices), samples=2).alpha
        gradients.append(torch.autograd.grad((weights * alpha).sum(), vertices)[0].flatten())
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.8


def test_views_are_independent_of_the_batch() -> None:
    vertices, faces = ball()
    cameras = ring(3, 20, 20)
    together = pytorch3d.render(vertices, faces, cameras, albedo=torch.ones_like(vertices)).radiance
    alone = pytorch3d.render(vertices, faces, cameras[[2]], albedo=torch.ones_like(vertices)).radiance
    torch.testing.assert_close(together[2], alone[0], atol=1e-6, rtol=0)


def test_nothing_seen_is_the_background() -> None:
    vertices, faces = ball()
    pose = torch.eye(4)[None]
    pose[0, 2, 3] = 5  # the ball lies behind
    cameras = Cameras(pose, torch.tensor([[[50.0, 0, 8], [0, 50, 8], [0, 0, 1]]]), 16, 16)
    blue = torch.tensor([0.0, 0.0, 2.0])
    image = pytorch3d.render(vertices, faces, cameras, albedo=torch.ones_like(vertices), background=blue)
    assert torch.equal(image.radiance, blue.expand(1, 16, 16, 3))
    assert image.alpha.sum() == 0 and image.depth.sum() == 0


@pytest.mark.parametrize("background", ["none", "constant"])
@pytest.mark.parametrize("reflectance", ["constant", "varying", "microfacet"])
@pytest.mark.parametrize("antialias", [True, False])
def test_gradients_are_finite_and_reach_every_parameter(antialias: bool, reflectance: str, background: str) -> None:
    """Warnings are errors, too."""
    config = RunConfig.model_validate(
        {
            "reflectance": reflectance,
            "background": background,
            "surface": {"cells": [4], "steps": 2},
            "texture": {"sizes": [4, 8]},
            "render": {"backend": "pytorch3d", "antialias": antialias, "samples": 1},
        }
    )
    model = Model(config, np.eye(4), 1.0)
    # Without turning, a sphere is nowhere at an angle with itself, and its paint nowhere uneven.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    image = model.render(model.mesh(2), ring(2, 24, 24))
    (image.radiance * torch.rand_like(image.radiance)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all() and (parameter.grad != 0).any(), name


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny scene, extracted."""
    folder = tmp_path_factory.mktemp("sets")
    for name in ("front", "full"):
        scene = Path(__file__).parents[1] / "config" / "scenes" / "tiny.yaml"
        assert main(["extract", str(scene), "--set-name", name, "--out", str(folder / f"{name}.npz")]) == 0
    return folder


def trained(sets: Path, out: Path, *settings: str) -> int:
    chosen = ["render.backend=pytorch3d", "render.samples=1", *TINY, *settings]
    return main(["train", "--views", str(sets / "front.npz"), "--out", str(out), "--set", *chosen])


@pytest.mark.parametrize("edges", ["render.antialias=true", "render.antialias=false"])
def test_train_and_validate_on_the_tiny_scene(sets: Path, tmp_path: Path, edges: str) -> None:
    assert trained(sets, tmp_path, edges, "train.iterations=8") == 0
    losses = pd.read_csv(tmp_path / "history.csv")["image"]
    assert len(losses) == 8 and losses.iloc[-2:].mean() < losses.iloc[:2].mean()
    validation = ["--views", f"full={sets / 'full.npz'}", "--out", str(tmp_path / "validation")]
    assert main(["validate", "--run", str(tmp_path), *validation]) == 0
    assert (tmp_path / "validation" / "full.json").is_file()


def test_a_background_behind_hard_colours_and_a_soft_alpha_is_refused(
    sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ("render.antialias=false", "loss.silhouette=1", "background=constant", "train.iterations=1")
    assert trained(sets, tmp_path / "run", *settings) == 2
    assert "key 'loss.silhouette'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_row_of_the_table_of_experiments(tmp_path: Path) -> None:
    from project import SCENE, snakemake, write_project

    header = "experiment\trender.backend\trender.samples\ttrain.iterations\ttrain.levels\tsurface.cells\n"
    folder = write_project(tmp_path, header + "theirs\tpytorch3d\t1\t2\t[2]\t[4]\n", validation=["front"])
    # Hardly smaller than the sphere that training starts from: far from the truth, distances take minutes to measure.
    (folder / "scenes" / "ball.yaml").write_text(SCENE.replace("0.6", "0.95"))
    done = snakemake(folder, "results/ball/theirs/mesh.ply")
    assert done.returncode == 0, done.stdout
    run = folder / "results" / "ball" / "theirs"
    assert "backend: pytorch3d" in (run / "train.yaml").read_text()
    assert (run / "validation" / "front.json").is_file()
