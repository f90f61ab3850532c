"""The Triton kernels against torch: on a CUDA device, or else in Triton's interpreter."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from shapes import bumpy, ring, sphere_views
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
if DEVICE.type == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported
pytest.importorskip("triton", reason="the package triton is not installed")

import recon.model.texture as texture
import recon.render.kernels.antialias as antialias_kernels
import recon.render.kernels.rasterize as rasterize_kernels
import recon.render.kernels.sums as sums_kernels
import recon.render.kernels.surface as surface_kernels
import recon.render.renderer as renderer
import recon.surface.grid as grid
import recon.surface.kernels as spline_kernels
from recon.camera import Cameras
from recon.config import SurfaceConfig, load_config
from recon.render.kernels.antialias import Silhouettes, find_pairs
from recon.render.kernels.rasterize import EMPTY, nearest_faces
from recon.render.kernels.samples import render_pixels, render_samples
from recon.render.kernels.serving import serves
from recon.render.kernels.sums import sums_at
from recon.render.kernels.topology import incidence, topology
from recon.render.rasterize import on_screen, visible_faces
from recon.render.renderer import diffuse, torch_samples
from recon.surface.kernels import TritonSpline
from recon.surface.spline import Spline
from recon.training.data import TrainingData
from recon.training.draws import StagedDraws
from recon.training.initialise import initial_model
from recon.training.loop import Optimisation
from recon.training.schedule import Progress


@pytest.fixture(autouse=True)
def large_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter takes as long for a large block as for a small one."""
    if DEVICE.type == "cpu":
        for module in (antialias_kernels, sums_kernels, surface_kernels, spline_kernels):
            monkeypatch.setattr(module, "BLOCK", 2048)
        monkeypatch.setattr(antialias_kernels, "EDGES", 2048)
        monkeypatch.setattr(rasterize_kernels, "LANES", 4096)


def scene(level: int = 2, size: int = 24, views: int = 2) -> tuple[torch.Tensor, torch.Tensor, Cameras]:
    vertices, faces = bumpy(level)
    return vertices.to(DEVICE), faces.to(DEVICE), ring(views, size, size + 3).to(DEVICE)


def faces_seen(vertices: torch.Tensor, faces: torch.Tensor, cameras: Cameras, cull: bool) -> torch.Tensor:
    points = cameras.project(vertices).permute(2, 0, 1)
    nearest = nearest_faces(points, topology(faces, len(vertices)), cameras.height, cameras.width, cull)
    return torch.where(nearest.seen == EMPTY, -1, nearest.seen & 0xFFFFFFFF)


@pytest.mark.parametrize("cull", [True, False])
@pytest.mark.parametrize("level", [0, 2])
def test_samples_see_the_faces_that_they_see_in_torch(level: int, cull: bool) -> None:
    vertices, faces, cameras = scene(level)
    expected = visible_faces(on_screen(vertices, faces, cameras), faces, cameras.height, cameras.width, cull)
    found = faces_seen(vertices, faces, cameras, cull)
    # On an edge, rounding may tell for either of two faces.
    assert (found != expected).float().mean() <= (0 if DEVICE.type == "cpu" else 1e-3)


def test_equal_depths_go_to_the_lower_index() -> None:
    vertices, faces, cameras = scene(1)
    twice = torch.cat([faces.flip(0), faces])
    found = faces_seen(vertices, twice, cameras, cull=True)
    assert found.max() < len(faces) and (found >= 0).any()


def test_faces_behind_and_beside_the_camera_are_left_out() -> None:
    vertices, faces, cameras = scene(1)
    behind = vertices + 5 * cameras.centers[0]
    assert (faces_seen(behind, faces, cameras[[0]], cull=False) == -1).all()
    assert (faces_seen(torch.full_like(vertices, torch.nan), faces, cameras, cull=False) == -1).all()


def rendered(render: Any, antialias: bool = True) -> list[torch.Tensor]:
    """Pictures, details, and the gradients of a sum of squares by vertices and albedo."""
    vertices, faces, cameras = scene()
    albedo = torch.linspace(0.2, 1, vertices.numel(), device=DEVICE).view(-1, 3)
    leaves = [vertices.requires_grad_(), albedo.requires_grad_()]
    image, details = render(vertices, faces, cameras, albedo, diffuse, antialias=antialias, cull=True)
    weights = torch.randn(image.shape, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    return [image.detach(), details, *torch.autograd.grad((image * weights).sum(), leaves)]


@pytest.mark.parametrize("antialias", [True, False])
def test_pictures_and_gradients_are_those_of_torch(antialias: bool) -> None:
    for expected, found in zip(rendered(torch_samples, antialias), rendered(render_samples, antialias), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_what_sees_nothing_is_shaded_as_something_on_the_surface() -> None:
    """A shader need not know attributes of 0, as textures have no place for them."""

    def shader(attributes: torch.Tensor, irradiance: torch.Tensor, *rest: Any) -> torch.Tensor:
        return attributes / attributes.abs().sum(dim=1, keepdim=True) * irradiance[:, None]

    pictures = []
    for render in (torch_samples, render_samples):
        vertices, faces, cameras = scene()
        vertices.requires_grad_()
        image, _ = render(vertices, faces, cameras, vertices + 2, shader, antialias=True, cull=True)
        pictures.append((image.detach(), torch.autograd.grad(image.square().sum(), vertices)[0]))
    for expected, found in zip(*pictures, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_silhouettes_count_once_and_are_the_outermost() -> None:
    """As many pairs as torch finds, each with the same distance."""
    from recon.render.antialias import find_crossings

    vertices, faces, cameras = scene(3)
    screen = on_screen(vertices, faces, cameras)
    _, details = torch_samples(vertices, faces, cameras, torch.ones_like(vertices), diffuse, antialias=False, cull=True)
    expected = find_crossings(vertices, faces, cameras, screen, details[3])
    edges = Silhouettes(screen.points.contiguous(), screen.area, details[3], cameras.world_to_image)
    pairs = find_pairs(topology(faces, len(vertices)), edges)
    found = pairs[pairs >= 0]
    distances = (found >> 32).to(torch.int32).view(torch.float32)
    torch.testing.assert_close(distances.sort().values, expected.distance.sort().values, rtol=1e-3, atol=1e-5)
    # The pair's lower sample is the near or the far one.
    lower = (pairs >= 0).flatten(1).nonzero()[:, 1]
    assert torch.equal(lower.sort().values, torch.minimum(expected.near, expected.far).sort().values)


def test_sums_are_over_all_places_of_a_vertex() -> None:
    index = torch.randint(7, (2, 40), generator=torch.Generator().manual_seed(0)).to(DEVICE)
    values = torch.randn(3, 2, 80, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    expected = torch.zeros(2, 9, device=DEVICE).index_add_(1, index.flatten(), values.sum(0))
    torch.testing.assert_close(sums_at(values, incidence(index, 9)), expected)  # two vertices are nowhere: 0


@pytest.mark.parametrize(("degree", "integrator", "steps"), [(1, "euler", 3), (2, "midpoint", 2), (3, "rk4", 1)])
def test_fused_splines_are_those_of_torch(degree: int, integrator: Any, steps: int) -> None:
    points = (0.7 * torch.randn(40, 3)).to(DEVICE)  # some lie beyond the grid
    coefficients = (0.3 * torch.randn(3, 4 + degree, 4 + degree, 4 + degree)).to(DEVICE)
    weights = torch.randn(40, 3).to(DEVICE), torch.randn(40, 3, 3).to(DEVICE)
    results = []
    for kind in (Spline, TritonSpline):
        leaves = [coefficients.clone().requires_grad_(), points.clone().requires_grad_()]
        spline = kind.of(leaves[0], degree)
        path = spline.trajectory(leaves[1], 0.4, steps, integrator)
        end, derivative = spline.step_jacobians(points, 0.4, integrator)
        gradients = torch.autograd.grad((path[-1] * weights[0]).sum(), leaves)
        loss = (end * weights[0]).sum() + (derivative * weights[1]).sum()
        results.append([torch.stack(path).detach(), end.detach(), derivative.detach(), *gradients])
        results[-1] += torch.autograd.grad(loss, leaves[:1])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of the interpreter's numpy
@pytest.mark.parametrize("spoilt", [torch.nan, torch.inf])
def test_a_gradient_that_is_not_finite_shows_in_the_coefficients(spoilt: float) -> None:
    """Sums of integers would hide it."""
    leaf = torch.zeros(3, 6, 6, 6, device=DEVICE, requires_grad=True)
    end = TritonSpline.of(leaf, 2).trajectory(torch.zeros(5, 3, device=DEVICE), 0.4, 2, "midpoint")[-1]
    weights = torch.ones_like(end)
    weights[2, 1] = spoilt
    gradient = torch.autograd.grad((end * weights).sum(), leaf)[0]
    assert not gradient.isfinite().all()


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_sums_are_as_fine_as_the_gradients_are_large(scale: float) -> None:
    points = (0.5 * torch.randn(30, 3)).to(DEVICE)
    weights = scale * torch.randn(30, 3).to(DEVICE)
    found = []
    for kind in (Spline, TritonSpline):
        leaf = torch.zeros(3, 6, 6, 6, device=DEVICE, requires_grad=True)
        end = kind.of(leaf, 2).trajectory(points, 0.4, 1, "euler")[-1]
        found.append(torch.autograd.grad((end * weights).sum(), leaf)[0] / scale)
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)


def test_points_that_are_no_numbers_stay_so() -> None:
    points = torch.tensor([[0.0, torch.nan, 0.0], [0.1, 0.2, 0.3]], device=DEVICE)
    field = TritonSpline.of(torch.ones(3, 6, 6, 6, device=DEVICE), 2)
    end = field.trajectory(points, 0.4, 1, SurfaceConfig().integrator)[-1]
    assert end[0].isnan().any() and end[1].isfinite().all()


def test_a_trial_that_fails_says_so_in_one_line_and_once(capsys: pytest.CaptureFixture[str]) -> None:
    def trial(device: torch.device) -> None:
        raise RuntimeError("no C compiler\nand more")

    cuda = torch.device("cuda", 0)
    assert not serves(trial, cuda, "rendering") and not serves(trial, cuda, "rendering")
    assert capsys.readouterr().err == (
        "recon: rendering in plain torch, more slowly, as Triton does not serve here: no C compiler\n"
    )
    assert not serves(trial, torch.device("meta"), "rendering")
    assert capsys.readouterr().err == ""


def test_the_trials_pass() -> None:
    from recon.render import trial as of_rendering
    from recon.surface import trial as of_flow

    of_rendering.check(DEVICE, render_pixels)
    of_flow.check(DEVICE, TritonSpline.of)


def test_a_trial_notices_a_wrong_kernel() -> None:
    from recon.surface import trial

    with pytest.raises(RuntimeError, match="is not that of torch"):
        trial.check(DEVICE, lambda coefficients, degree: TritonSpline.of(1.01 * coefficients, degree))


WAITING = ("local_scalar", "nonzero", "masked_select", "unique", "bincount", "repeat_interleave", "is_nonzero")
"""Parts of the names of operations that have to wait for the device, or have shapes that depend on what is there."""

UPLOADS = ("lift_fresh",)
"""Those that send what the host has made."""


class Noted(TorchDispatchMode):
    """The names of all operations, but for those of the draws and of the interpreter."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.asleep = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self.asleep:
            self.names.add(str(operation))
        return operation(*args, **(kwargs or {}))

    def asleep_in(self, call: Any) -> Any:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            self.asleep += 1
            try:
                return call(*arguments, **options)
            finally:
                self.asleep -= 1

        return wrapped


@pytest.mark.skipif(DEVICE.type == "cuda", reason="of the interpreter; a CUDA graph notices by itself")
@pytest.mark.parametrize(
    "options",
    [[], ["train.crop.size=12", "background=constant"], ["reflectance=microfacet", "texture.sizes=[4,8]"]],
    ids=["default", "crops", "textures"],
)
def test_nothing_in_a_recorded_iteration_waits(options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from triton.runtime.interpreter import GridExecutor

    small = ["surface.cells=[2,4]", "surface.steps=1", "surface.degree=1", "surface.integrator=euler"]
    small += ["train.levels=[1]", "train.views_per_iteration=2", "render.samples=1"]
    config = load_config(None, [*small, "loss.velocity_points=8", *options])
    views = sphere_views(3, 20)
    monkeypatch.setattr(renderer, "kernels_work", lambda device: True)
    monkeypatch.setattr(renderer, "_compiled", lambda device: render_pixels)
    monkeypatch.setattr(texture, "serves", lambda *_: False)  # on a CUDA device they are torch's
    monkeypatch.setattr(grid, "serves", lambda *_: True)
    monkeypatch.setattr(grid, "_compiled", lambda device: TritonSpline.of)
    data = TrainingData.from_views(views, DEVICE)
    optimisation = Optimisation(initial_model(config, views, DEVICE), data, Progress(9), recorded=True)
    optimisation.step()
    noted = Noted()
    monkeypatch.setattr(StagedDraws, "take", noted.asleep_in(StagedDraws.take))
    monkeypatch.setattr(GridExecutor, "__call__", noted.asleep_in(GridExecutor.__call__))
    with noted:
        optimisation.step()
    assert any("addcmul" in name for name in noted.names)
    assert [name for name in sorted(noted.names) if any(part in name for part in WAITING + UPLOADS)] == []


@pytest.mark.slow
def test_kernels_compile_for_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    """The interpreter runs Python; the compiler wants types, shapes and constants that fit."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    program = Path(__file__).parent / "compile_kernels.py"
    done = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kernels = {line.split(".")[-1] for line in done.stdout.splitlines()}
    assert kernels == {
        *("sums _sums_at", "rasterize _nearest_faces", "surface _forward", "surface _backward", "antialias _find"),
        *("antialias _blend", "antialias _blend_backward", "antialias _ends_backward", "kernels _forward"),
        *("kernels _backward", "kernels _look_up", "kernels _look_up_backward"),
    }
