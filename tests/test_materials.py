"""Errors of a learned reflectance against known materials, as validation measures them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from shapes import sphere_views

from recon.config import RunConfig
from recon.evaluation.match import match
from recon.evaluation.materials import MaterialErrors
from recon.images.metrics import mean_metrics
from recon.model.material import material
from recon.model.model import Model
from recon.views import Views


def ball(reflectance: str = "varying") -> tuple[Model, Views]:
    """The unit sphere of a new model, and views of it."""
    config = RunConfig(reflectance=reflectance)
    model = Model(config, np.eye(4), 1.0, 0.8)
    views = sphere_views(3, 40)
    found = match(model, model.mesh(3), views)
    return model, replace(views, masks=((found.alpha > 0.5) * 255).astype(np.uint8))


def errors(model: Model, views: Views) -> list[dict[str, float]]:
    mesh = model.mesh(3)
    with MaterialErrors() as measured:
        for part in (slice(0, 1), slice(1, 3)):
            measured.add(views.select(part), match(model, mesh, views.select(part)))
        return measured.per_view()


def test_the_right_albedo_has_no_error_at_any_scale() -> None:
    model, views = ball()
    albedo = np.full_like(views.images, 0.25)
    found = errors(model, replace(views, albedo=albedo, roughness=np.zeros_like(albedo[..., 0])))
    assert len(found) == 3
    for row in found:
        assert row == {"albedo_error": pytest.approx(0, abs=1e-6)}


def test_one_colour_in_place_of_two_is_off_by_how_much_they_differ() -> None:
    """The best single colour for as much of 0.8 as of 0.2 is 0.5."""
    model, views = ball("constant")
    halves = np.where(np.arange(40)[:, None] % 2 < 1, 0.8, 0.2).astype(np.float32)
    albedo = np.broadcast_to(halves[None, :, :, None], views.images.shape).copy()
    for row in errors(model, replace(views, albedo=albedo, roughness=np.zeros_like(views.images[..., 0]))):
        assert row["albedo_error"] == pytest.approx(0.3, abs=0.02)


def test_roughness_is_measured_where_something_is_glossy() -> None:
    model, views = ball("microfacet")
    with torch.no_grad():
        learned = material(model, torch.eye(3)).roughness[0].item()
    roughness = np.where(np.arange(40) < 20, learned + 0.1, 0).astype(np.float32)
    roughness = np.broadcast_to(roughness, views.images.shape[:3]).copy()
    for row in errors(model, replace(views, albedo=np.full_like(views.images, 0.5), roughness=roughness)):
        assert row["roughness_error"] == pytest.approx(0.1, abs=1e-3)


def test_views_without_known_materials_say_nothing() -> None:
    assert errors(*ball()) == []


def test_a_view_without_a_pixel_that_counts_is_left_out_of_the_mean() -> None:
    model, views = ball()
    masks = views.masks.copy()
    masks[0] = 0
    masks[0, 20, 20] = 255
    found = errors(
        model,
        replace(
            views, masks=masks, albedo=np.full_like(views.images, 0.5), roughness=np.zeros_like(views.images[..., 0])
        ),
    )
    assert found[0] == {}
    assert mean_metrics(found)["albedo_error"] == pytest.approx(0, abs=1e-6)
