"""An object with paint on it comes out as its shape, not as the sphere with its photographs painted on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from shapes import sphere_views

from recon.camera import Cameras
from recon.config import load_config
from recon.model.model import Model
from recon.model.reflectance import VaryingReflectance
from recon.render.renderer import render
from recon.surface.icosphere import icosphere
from recon.training import paint
from recon.training.data import TrainingData
from recon.training.initialise import initial_model
from recon.training.loop import Optimisation, fit
from recon.training.paint import Contrast, PaintLooks, contrast
from recon.training.schedule import Progress
from recon.views import Views

CPU = torch.device("cpu")

AXES = torch.tensor([0.8, 0.5, 0.4])
ITERATIONS = 260


def painted(dark: float = 0.2) -> Views:
    """An ellipsoid in bright stripes and ones that are `dark` times as bright, seen from all around and above."""
    sphere, faces = icosphere(5)
    vertices = AXES * sphere
    bright = torch.tensor([0.8, 0.6, 0.4])
    albedo = torch.where((6 * vertices[:, :1]).floor() % 2 == 0, bright, dark * bright)
    views = sphere_views(12, 32)
    image = render(vertices, faces, Cameras.from_views(views), albedo=albedo, samples=4)
    peak = image.radiance.max()
    return replace(views, images=(image.radiance / peak).numpy(), masks=None, radiance_scale=peak.item())


def trained(views: Views, *options: str) -> Model:
    settings = [f"train.iterations={ITERATIONS}", "train.levels=[3]", "render.samples=1", "surface.cells=[4,8]"]
    model = initial_model(load_config(None, [*settings, "surface.steps=3", *options]), views, CPU)
    fit(Optimisation(model, TrainingData.from_views(views, CPU), Progress(ITERATIONS)), lambda step: None)
    return model


def extent(model: Model) -> np.ndarray:
    with torch.no_grad():
        vertices = model.mesh(3).vertices
    return (vertices.amax(dim=0) - vertices.amin(dim=0)).numpy() / 2


@pytest.mark.slow
@pytest.mark.parametrize("reflectance", ["varying", "microfacet"])
def test_a_painted_object_keeps_its_shape(reflectance: str) -> None:
    model = trained(painted(), f"reflectance={reflectance}")
    with torch.no_grad():
        albedo = model.albedo(3).mean(dim=1)
    np.testing.assert_allclose(extent(model), AXES.numpy(), rtol=0.1)
    assert albedo.max() > 2.5 * albedo.min()  # and the paint is paint


@pytest.mark.slow
def test_an_object_of_one_albedo_gets_one() -> None:
    model = trained(painted(dark=1.0))
    assert model.reflectance.uniform
    with torch.no_grad():
        albedo = model.albedo(3)
    np.testing.assert_array_equal(albedo.amax(dim=0), albedo.amin(dim=0))
    np.testing.assert_allclose(extent(model), AXES.numpy(), rtol=0.1)


def model_of_a_ball(*options: str) -> tuple[Model, TrainingData]:
    """The sphere as it is, before any training, and views of it in its albedo."""
    views = sphere_views(4, 32)
    model = initial_model(load_config(None, ["train.levels=[4]", *options]), replace(views, masks=None), CPU)
    with torch.no_grad():
        images = model.render(model.mesh(4), Cameras.from_views(views)).radiance
    return model, TrainingData(Cameras.from_views(views), images, None)


def test_contrast_of_the_truth_is_none_and_that_of_another_brightness_its_error() -> None:
    model, data = model_of_a_ball()
    found = contrast(model, data, data.images, 4)
    assert found.error < 1e-6
    assert found.spread < 1e-3
    torch.testing.assert_close(found.log_albedo, model.reflectance.log_albedo.detach(), rtol=1e-4, atol=1e-4)
    assert contrast(model, data, 1.25 * data.images, 4).error == pytest.approx(0.2, abs=1e-3)


def test_contrast_tells_how_far_an_albedo_is_spread() -> None:
    model, data = model_of_a_ball()
    assert isinstance(model.reflectance, VaryingReflectance)
    texture = model.reflectance.textures()[0]
    with torch.no_grad():
        texture[:, :, :2], texture[:, :, 2:] = 0.3, -0.3  # east and west, with a slope between
    found = contrast(model, data, data.images, 4)
    assert 0.15 < found.spread < 0.3
    assert 0.1 < found.error < 0.4


def test_a_surface_that_is_seen_nowhere_explains_nothing() -> None:
    model, data = model_of_a_ball()
    data = TrainingData(data.cameras, data.images, None, known=torch.zeros(data.images.shape[:3]))
    assert contrast(model, data, data.images, 4).error == np.inf


def test_pixels_that_no_photograph_shows_do_not_count() -> None:
    model, data = model_of_a_ball()
    wrong, known = data.images.clone(), torch.ones(data.images.shape[:3])
    wrong[:, :, :16], known[:, :, :17] = 0, 0
    data = TrainingData(data.cameras, wrong, None, known=known)
    assert contrast(model, data, wrong, 4).error < 1e-6


ONE = Contrast(0.02, 0.02, torch.zeros(3))
WEAK = Contrast(0.06, 0.06, torch.zeros(3))


@pytest.mark.parametrize(
    ("finds", "released", "uniform"),
    [
        ([ONE] * 7, False, True),
        ([Contrast(0.02, 0.3, torch.zeros(3))], True, False),
        ([*[Contrast(0.5, 0.05, torch.zeros(3))] * 5], False, False),
        ([*[WEAK] * 5, WEAK], False, False),
        ([*[ONE] * 6, Contrast(0.03, 0.0, torch.zeros(3))], False, False),
        ([*[ONE] * 4, Contrast(0.2, 0.02, torch.zeros(3))], False, False),
    ],
    ids=["one albedo", "contrast", "fine paint", "weak paint", "weaker paint", "paint at its time"],
)
def test_paint_is_used_where_it_is_needed(
    finds: list[Contrast], released: bool, uniform: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = model_of_a_ball()
    remaining = iter(finds)
    monkeypatch.setattr(paint, "contrast", lambda *_: next(remaining))
    looks, optimizer = PaintLooks(model), torch.optim.Adam(model.parameters())
    for step in range(100):
        if looks.is_due(step / 100):
            looks.look(model, optimizer, data, data.images, 2, step / 100)
    assert (looks.released, model.reflectance.uniform) == (released, uniform)
    assert next(remaining, None) is None  # and nothing is looked at once it is decided


def test_textures_that_are_laid_aside_leave_their_mean_and_no_momentum() -> None:
    model, data = model_of_a_ball("texture.least=0.99")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model.albedo(2).sum().backward()
    optimizer.step()
    mean = model.albedo(4).mean().item()
    looks = PaintLooks(model)
    looks.look(model, optimizer, data, data.images, 4, 0.4)
    assert model.reflectance.uniform
    np.testing.assert_allclose(model.albedo(2).detach(), mean, rtol=0.01)
    assert all(not each.any() for each in model.reflectance.textures())
    assert all(not optimizer.state[each]["exp_avg"].any() for each in model.reflectance.textures())


@pytest.mark.parametrize("option", ["texture.least=0", "reflectance=constant", "surface.representation=mlp"])
def test_nothing_is_decided_where_nothing_can_be(option: str) -> None:
    model, _ = model_of_a_ball(option)
    assert not any(PaintLooks(model).is_due(step / 100) for step in range(100))


def test_the_decision_is_part_of_the_state() -> None:
    model, data = model_of_a_ball("texture.least=0.99")
    looks = PaintLooks(model)
    looks.look(model, torch.optim.Adam(model.parameters()), data, data.images, 2, 0.4)
    other, _ = model_of_a_ball("texture.least=0.99")
    goes_on = PaintLooks(other)
    goes_on.load_state_dict(looks.state_dict(model), other)
    assert other.reflectance.uniform
    assert not goes_on.is_due(0.4)
    assert goes_on.is_due(0.6)


def test_weights_tell_whether_textures_are_laid_aside() -> None:
    model, _ = model_of_a_ball()
    assert isinstance(model.reflectance, VaryingReflectance)
    model.load_state_dict(model.state_dict())
    assert model.reflectance.uniform
    with torch.no_grad():
        model.reflectance.textures()[0].add_(0.1)
    model.load_state_dict(model.state_dict())
    assert not model.reflectance.uniform
