"""The renderer by Numba's loops against the same in torch."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from shapes import bumpy, ring, sphere_views
from torch import Tensor

import recon.processor as processor
import recon.render.renderer as renderer
from recon.camera import Cameras
from recon.config import load_config
from recon.model.compiled import look_up as compiled_look_up
from recon.model.texture import look_up, wrapped
from recon.model.trial import check as check_textures
from recon.render.compiled.parts import equal_parts, side_by_side
from recon.render.compiled.rasterize import nearest_faces
from recon.render.compiled.samples import render_pixels
from recon.render.rasterize import on_screen, visible_faces
from recon.render.renderer import diffuse, render, torch_pixels
from recon.render.shade import Angles
from recon.render.trial import check
from recon.training.data import TrainingData
from recon.training.initialise import initial_model
from recon.training.loop import Optimisation
from recon.training.schedule import Progress

SIZE = 22


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def triangles(seed: int, count: int = 40) -> tuple[Tensor, Tensor]:
    """Without order, of any size and seen from either side; some of them behind the cameras."""
    return 0.8 * random(3 * count, 3, seed=seed), torch.arange(3 * count).view(-1, 3)


def cameras(light: str = "flash") -> Cameras:
    """Three views, the last of which looks past everything."""
    views = ring(3, SIZE, SIZE + 3)
    poses = views.camera_to_world.clone()
    poses[2, :3, 2] *= -1
    views = replace(views, camera_to_world=poses)
    if light == "flash":
        return views
    directions = torch.nn.functional.normalize(views.centers + 0.7, dim=1)
    place = views.centers + 0.5 if light == "near" else directions
    return replace(views, lights=torch.cat([place, torch.full((3, 1), float(light == "near"))], dim=1))


def seen(vertices: Tensor, faces: Tensor, views: Cameras, cull: bool) -> Tensor:
    points = on_screen(vertices, faces, views).points.contiguous()
    return nearest_faces(points, faces, views.height, views.width, cull).face.long()


@pytest.mark.parametrize("cull", [True, False])
@pytest.mark.parametrize(
    "scene", [bumpy(1), bumpy(3), triangles(0), triangles(1, 400)], ids=["few", "many", "soup", "fine soup"]
)
def test_samples_see_the_faces_that_they_see_in_torch(scene: tuple[Tensor, Tensor], cull: bool) -> None:
    vertices, faces = scene
    views = cameras().scaled(3)
    expected = visible_faces(on_screen(vertices, faces, views), faces, views.height, views.width, cull)
    assert (expected >= 0).any()
    assert torch.equal(seen(vertices, faces, views, cull), expected)


@pytest.mark.parametrize("first", range(3))
@pytest.mark.parametrize("second", range(3))
def test_an_edge_through_pixel_centres_leaves_no_hole(first: int, second: int) -> None:
    """Whichever barycentric coordinates of the two faces are zero along it."""
    vertices = torch.tensor([[-1.0, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]])
    camera = Cameras(torch.eye(4)[None], torch.tensor([[[7.3, 0, 6.5], [0, 7.3, 6.5], [0, 0, 1]]]), 13, 13)
    faces = torch.stack([torch.tensor([0, 2, 1]).roll(first), torch.tensor([0, 3, 2]).roll(second)])
    assert (seen(vertices, faces, camera, cull=True) >= 0).all()


def test_equal_depths_go_to_the_lower_index() -> None:
    vertices, faces = bumpy(1)
    found = seen(vertices, torch.cat([faces.flip(0), faces]), cameras(), cull=True)
    assert found.max() < len(faces) and (found >= 0).any()


@pytest.mark.parametrize("cull", [True, False])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])
def test_corners_that_are_no_place_are_not_seen(value: float, cull: bool) -> None:
    vertices, faces = bumpy(1)
    vertices[::3] = value
    views = cameras()
    expected = visible_faces(on_screen(vertices, faces, views), faces, views.height, views.width, cull)
    assert torch.equal(seen(vertices, faces, views, cull), expected)


def faded(attributes: Tensor, irradiance: Tensor, cosine: Tensor, angles: Angles | None = None) -> Tensor:
    """Radiance that depends on all that a shader is given."""
    radiance = (0.5 + attributes[:, :3].square()) * (irradiance + 0.1 * cosine.square())[:, None]
    return radiance if angles is None else radiance * (1 + angles.half + angles.difference * angles.view)[:, None]


def rendered(pixels: Any, scene: tuple[Tensor, Tensor], views: Cameras, *, samples: int = 2, **options: Any) -> Any:
    """Pictures, details, and the gradients of a random sum over the pictures by vertices, attributes and lights."""
    vertices, faces = scene
    leaves = [vertices.clone().requires_grad_(), random(len(vertices), 4, seed=1).requires_grad_()]
    if views.lights is not None:
        leaves.append(views.lights[:, :3].clone().requires_grad_())
        views = replace(views, lights=torch.cat([leaves[2], views.lights[:, 3:]], dim=1))
    margin = 1 if options["antialias"] else 0
    fine = views.scaled(samples).padded(margin)
    image, details = pixels(leaves[0], faces, fine, leaves[1], faded, samples, margin, **options)
    gradients = torch.autograd.grad((image * random(*image.shape)).sum(), leaves)
    return [image.detach(), details, *gradients]


def assert_alike(scene: tuple[Tensor, Tensor], views: Cameras, **options: Any) -> None:
    expected, found = (rendered(each, scene, views, **options) for each in (torch_pixels, render_pixels))
    assert expected[0].any() and all(each.any() for each in expected[2:])
    for of_torch, compiled in zip(expected, found, strict=True):
        scale = of_torch.abs().max().item()
        torch.testing.assert_close(compiled, of_torch, rtol=1e-3, atol=2e-5 * scale)


@pytest.mark.parametrize("light", ["flash", "near", "distant"])
@pytest.mark.parametrize("antialias", [True, False])
def test_pictures_and_gradients_are_those_of_torch(antialias: bool, light: str) -> None:
    assert_alike(bumpy(2), cameras(light), antialias=antialias, cull=True)


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_any_number_of_samples_makes_a_pixel(samples: int) -> None:
    assert_alike(bumpy(3), cameras(), samples=samples, antialias=True, cull=True)


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_so_are_those_of_triangles_without_order(seed: int) -> None:
    assert_alike(triangles(seed, 30), cameras(), antialias=True, cull=False)


def test_without_silhouettes_pictures_are_the_means_of_samples_bit_for_bit() -> None:
    """A shader of constants leaves nothing but sums to be rounded, and they are in the same order."""

    def constant(attributes: Tensor, irradiance: Tensor, *_: Any) -> Tensor:
        return (0.1 + 0 * irradiance)[:, None].expand(-1, 3)

    (vertices, faces), views = bumpy(2), cameras().scaled(3)
    found, expected = (
        each(vertices, faces, views, vertices, constant, 3, 0, antialias=False, cull=True)[0]
        for each in (render_pixels, torch_pixels)
    )
    assert torch.equal(found, expected)


def test_attributes_without_gradient_change_no_other() -> None:
    (vertices, faces), views = bumpy(2), cameras().scaled(2).padded(1)
    gradients = []
    for wanted in (True, False):
        vertices, attributes = vertices.clone().requires_grad_(), random(len(vertices), 3).requires_grad_(wanted)
        image, _ = render_pixels(vertices, faces, views, attributes, diffuse, 2, 1, antialias=True, cull=True)
        gradients.append(torch.autograd.grad(image.square().sum(), vertices)[0])
    assert torch.equal(*gradients)


def test_any_number_of_threads_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(processor, "_for_loops", threads)
        results.append(rendered(render_pixels, bumpy(3), ring(5, SIZE, SIZE), antialias=True, cull=True))
    for one, two, three in zip(*results, strict=True):
        assert torch.equal(one, two) and torch.equal(one, three)


def test_a_training_has_the_same_weights_with_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a mesh so fine that the flow is cut into parts, too."""
    config, views = load_config(None, ["train.levels=[5]", "surface.cells=[2,4]"]), sphere_views(4, 24)
    weights = []
    for threads in (1, 2):
        monkeypatch.setattr(processor, "_for_loops", threads)
        torch.manual_seed(0)
        model = initial_model(config, views, torch.device("cpu"))
        optimisation = Optimisation(model, TrainingData.from_views(views, torch.device("cpu")), Progress(9))
        for _ in range(3):
            optimisation.step()
        weights.append([each.detach().clone() for each in model.parameters()])
    assert all(map(torch.equal, *weights))


def test_parts_are_worked_on_by_several_threads_and_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setattr(processor, "_for_loops", 2)
    both = threading.Barrier(2, timeout=60)  # passes only if two wait at once

    def work(part: slice) -> int:
        both.wait()
        return part.start

    assert side_by_side(work, equal_parts(10, 4)) == [0, 2, 5, 7]


def test_what_sees_nothing_is_a_black_picture_that_pulls_at_nothing() -> None:
    vertices, faces = bumpy(1)
    vertices.requires_grad_()
    image = render(vertices, faces, cameras()[[2]], albedo=torch.ones_like(vertices))
    image.radiance.sum().backward()
    assert not image.radiance.any() and not image.alpha.any() and not image.depth.any()
    assert vertices.grad is not None and not vertices.grad.any()


def test_no_faces_are_a_black_picture() -> None:
    vertices = torch.zeros(0, 3, requires_grad=True)
    image, details = render_pixels(
        vertices, torch.zeros(0, 3, dtype=torch.long), cameras(), vertices, diffuse, 1, 0, antialias=False, cull=True
    )
    image.sum().backward()
    assert image.shape == (4, 3, SIZE, SIZE + 3) and not image.any() and not details.any()


def test_single_precision_is_rendered_by_compiled_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(renderer, "torch_pixels", lambda *_, **__: called.append("torch") or torch_pixels(*_, **__))
    vertices, faces = bumpy(1)
    render(vertices, faces, cameras(), albedo=vertices)
    assert not called
    render(vertices.double(), faces, cameras().to(torch.float64), albedo=vertices.double())
    render(vertices, faces, cameras(), albedo=vertices, smooth=False)
    assert called == ["torch", "torch"]


def test_a_trial_notices_wrong_loops() -> None:
    def darker(*arguments: Any, **options: Any) -> tuple[Tensor, Tensor]:
        image, details = render_pixels(*arguments, **options)
        return 0.99 * image, details

    check(torch.device("cpu"), render_pixels)
    with pytest.raises(RuntimeError, match="the pictures of a small mesh are not those of torch"):
        check(torch.device("cpu"), darker)


def test_torch_serves_where_numba_does_not() -> None:
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "import torch\n"
        "from recon.model.texture import SphereTexture\n"
        "from recon.render.renderer import kernels_work\n"
        "print(kernels_work(torch.device('cpu')), SphereTexture((2,), 0.0, 3)(torch.eye(3)).abs().sum().item())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout == "False 0.0\n"
    for line, what in zip(done.stderr.splitlines(), ("rendering", "textures"), strict=True):
        assert line.startswith(f"recon: {what} in plain torch, more slowly, as Numba does not serve here: ")


def texture(size: int, channels: int = 3) -> Tensor:
    return wrapped(random(channels, size, size, seed=3))


def looked_up(function: Any, padded: Tensor, points: Tensor) -> list[Tensor]:
    leaves = [padded.clone().requires_grad_(), points.clone().requires_grad_()]
    values = function(*leaves)
    return [values.detach(), *torch.autograd.grad((values * random(*values.shape)).sum(), leaves)]


@pytest.mark.parametrize(("size", "channels", "count"), [(8, 3, 200), (2, 2, 5000), (16, 1, 1), (4, 5, 0)])
def test_textures_and_their_gradients_are_those_of_torch(size: int, channels: int, count: int) -> None:
    results = [looked_up(each, texture(size, channels), random(count, 3)) for each in (look_up, compiled_look_up)]
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_places_on_axes_have_the_values_and_gradients_of_torch() -> None:
    axes = torch.cat([torch.eye(3), -torch.eye(3), torch.tensor([[0.6, 0.0, -0.8], [0.0, -0.6, 0.8]])])
    results = [looked_up(each, texture(6), axes) for each in (look_up, compiled_look_up)]
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_what_is_no_place_has_no_value() -> None:
    values = compiled_look_up(texture(4), torch.tensor([[0.0, 0, 0], [torch.nan, 1, 0], [0.0, 0, 1]]))
    assert values[:2].isnan().all() and values[2].isfinite().all()


def test_textures_do_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for threads in (1, 3):
        monkeypatch.setattr(processor, "_for_loops", threads)
        results.append(looked_up(compiled_look_up, texture(4), random(3000, 3)))
    for one, three in zip(*results, strict=True):
        assert torch.equal(one, three)


def test_a_trial_of_textures_notices_wrong_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    check_textures(torch.device("cpu"))
    monkeypatch.setattr("recon.model.trial.compiled_look_up", lambda *arguments: 1.01 * look_up(*arguments))
    with pytest.raises(RuntimeError, match="is not what torch finds"):
        check_textures(torch.device("cpu"))
