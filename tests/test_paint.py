"""An object with paint on it comes out as its shape, not as the sphere with its photographs painted on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from shapes import sphere_views

from recon.camera import Cameras
from recon.config import load_config
from recon.render.renderer import render
from recon.surface.icosphere import icosphere
from recon.training.data import TrainingData
from recon.training.initialise import initial_model
from recon.training.loop import Optimisation, fit
from recon.training.schedule import Progress
from recon.views import Views

AXES = torch.tensor([0.8, 0.5, 0.4])
ITERATIONS = 160


def painted() -> Views:
    """An ellipsoid in dark and bright stripes, seen from all around and above."""
    sphere, faces = icosphere(5)
    vertices = AXES * sphere
    bright = torch.tensor([0.8, 0.6, 0.4])
    albedo = torch.where((6 * vertices[:, :1]).floor() % 2 == 0, bright, 0.2 * bright)
    views = sphere_views(12, 32)
    image = render(vertices, faces, Cameras.from_views(views), albedo=albedo, samples=4)
    peak = image.radiance.max()
    return replace(views, images=(image.radiance / peak).numpy(), masks=None, radiance_scale=peak.item())


@pytest.mark.slow
@pytest.mark.parametrize("reflectance", ["varying", "microfacet"])
def test_a_painted_object_keeps_its_shape(reflectance: str) -> None:
    views = painted()
    options = [f"reflectance={reflectance}", f"train.iterations={ITERATIONS}", "train.levels=[3]", "render.samples=1"]
    config = load_config(None, [*options, "surface.cells=[4,8]", "surface.steps=3"])
    model = initial_model(config, views, torch.device("cpu"))
    fit(
        Optimisation(model, TrainingData.from_views(views, torch.device("cpu")), Progress(ITERATIONS)),
        lambda step: None,
    )
    with torch.no_grad():
        mesh = model.mesh(3)
        extent = (mesh.vertices.amax(dim=0) - mesh.vertices.amin(dim=0)).numpy() / 2
        albedo = model.albedo(3).mean(dim=1)
    np.testing.assert_allclose(extent, AXES.numpy(), rtol=0.08)
    assert albedo.max() > 2.5 * albedo.min()  # and the paint is paint
