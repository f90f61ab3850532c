from dataclasses import replace

import numpy as np
import pytest
import torch
from shapes import bumpy, ring, sphere_views

from recon.background.curriculum import Curriculum
from recon.camera import Cameras
from recon.config import load_config
from recon.render.renderer import render
from recon.surface.icosphere import icosphere
from recon.training.crop import (
    crop_weights,
    cropped,
    draw_crops,
    inclusion_probability,
    inside_crops,
    occupied_pixels,
    offset_distribution,
    offset_probability,
    slices,
    views_per_iteration,
)
from recon.training.data import TrainingData
from recon.training.draws import Draws
from recon.training.initialise import initial_model
from recon.training.losses import weighted_mean
from recon.training.objective import evaluate

CPU = torch.device("cpu")


@pytest.mark.parametrize(("length", "size"), [(100, 50), (100, 80), (32, 12), (10, 10), (11, 3)])
def test_offsets_lie_inside_and_border_pixels_are_not_starved(length: int, size: int) -> None:
    offsets = offset_distribution(length, size)
    assert len(offsets) == length - size + 1
    assert offsets.sum().item() == pytest.approx(1)
    inclusion = torch.stack([offsets[max(0, i - size + 1) : i + 1].sum() for i in range(length)])
    assert inclusion.min() >= size / (length + size - 1) - 1e-6


@pytest.mark.parametrize("everywhere", [True, False])
def test_the_expectation_over_all_crops_is_the_whole_view(everywhere: bool) -> None:
    """Exactly: every offset in turn, by its probability; no draws."""
    size, generator = 6, torch.Generator().manual_seed(0)
    error = torch.rand(1, 14, 17, generator=generator, dtype=torch.double)
    occupied = torch.ones_like(error, dtype=torch.bool)
    if not everywhere:
        occupied[:, :, :9] = False
        occupied[:, 5:, :] = False
        error = error * occupied  # where nothing is, there is no error
    probability = offset_probability(occupied, size).double()
    assert probability.sum().item() == pytest.approx(1)
    assert (probability == 0).any() != everywhere
    row, column = torch.meshgrid(torch.arange(9), torch.arange(12), indexing="ij")
    offsets = torch.stack([row.flatten(), column.flatten()], dim=1)
    inclusion = inclusion_probability(probability, size).expand(len(offsets), -1, -1)
    weights = crop_weights(inclusion, offsets, size)
    means = (weights * slices(error.expand(len(offsets), -1, -1), offsets, size)).mean(dim=(1, 2))
    means = torch.where(probability.flatten() > 0, means, 0)
    torch.testing.assert_close(probability.flatten() @ means, error.mean(), rtol=1e-6, atol=0)


def test_crops_are_drawn_as_probable_as_they_are_said_to_be() -> None:
    occupied = torch.zeros(1, 9, 8, dtype=torch.bool)
    occupied[0, 6:, 2:5] = True
    draws = 6000
    crops = draw_crops(occupied.expand(draws, -1, -1), 5, torch.Generator().manual_seed(0))
    expected = offset_probability(occupied, 5)[0]
    found = torch.zeros_like(expected)
    found.index_put_(tuple(crops.offsets.T), torch.tensor(1 / draws), accumulate=True)
    torch.testing.assert_close(found, expected, atol=4 * 0.5 / draws**0.5, rtol=0)


@pytest.mark.parametrize("views", [1, 3])
def test_where_no_crop_is_empty_all_are_drawn_and_weighted_alike(views: int) -> None:
    """Also by the table that all views share then."""
    occupied = torch.zeros(views, 12, 12, dtype=torch.bool)
    occupied[:, 5, 6] = True  # every crop of 7 holds it
    crops = draw_crops(occupied, 7, torch.Generator().manual_seed(0))
    anywhere = draw_crops(torch.ones_like(occupied), 7, torch.Generator().manual_seed(0))
    assert torch.equal(crops.offsets, anywhere.offsets)
    inclusion = inclusion_probability(offset_probability(occupied, 7), 7)
    torch.testing.assert_close(crops.weights, crop_weights(inclusion, crops.offsets, 7))


def test_no_crop_is_empty() -> None:
    occupied = torch.zeros(200, 40, 40, dtype=torch.bool)
    occupied[:, 30, 3] = True
    crops = draw_crops(occupied, 8, torch.Generator().manual_seed(0))
    row, column = crops.offsets.T
    assert ((row <= 30) & (row > 30 - 8) & (column <= 3)).all()


def test_nothing_to_see_draws_anywhere() -> None:
    crops = draw_crops(torch.zeros(300, 20, 20, dtype=torch.bool), 8, torch.Generator().manual_seed(0))
    assert crops.offsets.amin(0).tolist() == [0, 0]
    assert crops.offsets.amax(0).tolist() == [12, 12]


def test_occupied_is_what_the_image_or_the_mesh_shows() -> None:
    """Never an empty crop, but for outlines between pixel centres; every pixel with an error is in some crop."""
    cameras, (vertices, faces) = ring(2, 40, 40), icosphere(2)
    vertices = 0.3 * vertices + torch.tensor([0.0, 0.2, -0.3])
    images = torch.zeros(2, 40, 40, 3)
    images[0, 2, 3] = 0.5
    occupied = occupied_pixels(images, cameras, vertices)
    covered = render(vertices, faces, cameras, albedo=torch.ones_like(vertices)).alpha > 0
    shown = covered | (images.amax(dim=3) > 0)
    assert occupied[0, 2, 3]
    beside = torch.nn.functional.max_pool2d(shown.float(), 3, stride=1, padding=1) > 0
    assert not (occupied & ~beside).any()
    assert (occupied & ~shown).sum() < 0.02 * occupied.sum()
    assert (occupied & covered).sum() > 0.5 * covered.sum()
    inclusion = inclusion_probability(offset_probability(occupied, 8), 8)
    assert inclusion[shown].min() > 0.2 * inclusion.max()


def test_what_lies_behind_the_camera_occupies_nothing() -> None:
    cameras, (vertices, _) = ring(1, 20, 20), icosphere(1)
    behind = vertices * 0.1 + 2 * cameras.centers
    assert not occupied_pixels(torch.zeros(1, 20, 20, 3), cameras, behind).any()


def test_crops_are_slices() -> None:
    views = sphere_views()
    batch = TrainingData.from_views(views, CPU).batch(torch.tensor([4, 1]))
    crops = draw_crops(torch.ones(2, 32, 32, dtype=torch.bool), 12, torch.Generator().manual_seed(3))
    part = cropped(batch, 12, crops)
    assert views.masks is not None and part.masks is not None
    for i, view in enumerate((4, 1)):
        row, column = crops.offsets[i].tolist()
        crop = slice(row, row + 12), slice(column, column + 12)
        np.testing.assert_array_equal(part.images[i], views.images[view][crop])
        np.testing.assert_array_equal(part.masks[i] * 255, views.masks[view][crop])
    assert (part.cameras.height, part.cameras.width) == (12, 12)


def test_windows_keep_the_weight_0_of_what_is_not_known() -> None:
    views = sphere_views()
    known = np.full((6, 32, 32), 255, np.uint8)
    known[:, :, 20:] = 0
    batch = TrainingData.from_views(replace(views, known=known), CPU).batch(torch.tensor([4, 1]))
    assert batch.weights is not None and np.array_equal(batch.weights * 255, known[:2])
    windows = draw_crops(torch.ones(2, 32, 32, dtype=torch.bool), 12, torch.Generator().manual_seed(3))
    weights = cropped(batch, 12, windows).weights
    assert weights is not None
    for i in range(2):
        row, column = windows.offsets[i].tolist()
        seen = torch.tensor(known[0][row : row + 12, column : column + 12] > 0)
        assert torch.equal(weights[i], windows.weights[i] * seen)


@pytest.mark.parametrize("crop", ["null", "14"])
@pytest.mark.parametrize("background", ["none", "field"])
def test_pixels_that_are_not_known_pull_at_nothing(crop: str, background: str) -> None:
    """Whatever stands there, losses and gradients are the same."""
    views = sphere_views()
    known = np.full((6, 32, 32), 255, np.uint8)
    known[:, :, :9] = 0
    options = ["train.levels=[2]", f"train.crop.size={crop}", f"background={background}"]
    config = load_config(None, options)
    found = []
    for value in (0.0, 0.9):
        images = views.images.copy()
        images[known == 0] = value
        marked = replace(views, images=images, known=known)
        model = initial_model(config, replace(views, known=known), CPU)
        data = TrainingData.from_views(marked, CPU)
        curriculum = Curriculum.of(model.background, config.loss, data.cameras)
        terms = evaluate(
            model, curriculum, data.batch(torch.arange(6)), 0.0, Draws(torch.Generator().manual_seed(0), CPU)
        )
        terms["image"].backward()
        gradient = [p.grad for p in model.parameters() if p.grad is not None]
        found.append((terms["image"].item(), torch.cat([each.flatten() for each in gradient])))
    assert found[0][0] == found[1][0] and torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("corner", ["first", "last"])
@pytest.mark.parametrize("samples", [1, 2])
def test_outlines_at_a_crops_corner_are_those_of_the_whole_view(corner: str, samples: int) -> None:
    """Image and gradient, to 1e-6, where the crop's first or last pixel lies on an antialiased edge."""
    (vertices, faces), cameras, size = bumpy(3), ring(3, 40, 44).to(torch.float64), 14
    vertices = vertices.double().requires_grad_()

    def rendered(cameras: Cameras) -> tuple[torch.Tensor, torch.Tensor]:
        image = render(vertices, faces, cameras, albedo=torch.ones_like(vertices), samples=samples)
        return image.radiance, image.alpha

    radiance, alpha = rendered(cameras)
    edge = (alpha > 0.01) & (alpha < 0.99)
    room = torch.zeros_like(edge)
    inside = slice(0, 40 - size + 1), slice(0, 44 - size + 1)
    room[:, *(inside if corner == "first" else (slice(size - 1, None), slice(size - 1, None)))] = True
    pixels = torch.stack([view.nonzero()[len(view.nonzero()) // 2] for view in edge & room])
    offsets = pixels if corner == "first" else pixels - size + 1
    crop, part = rendered(cameras.cropped(offsets, size, size))
    at = 0 if corner == "first" else -1
    assert ((part[:, at, at] > 0.01) & (part[:, at, at] < 0.99)).all()
    torch.testing.assert_close(crop, slices(radiance, offsets, size), atol=1e-6, rtol=0)
    torch.testing.assert_close(part, slices(alpha, offsets, size), atol=1e-6, rtol=0)
    (found,) = torch.autograd.grad(crop.square().sum(), vertices)
    (expected,) = torch.autograd.grad(slices(radiance, offsets, size).square().sum(), vertices)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def test_cropped_training_sees_the_full_loss_on_average() -> None:
    views = sphere_views()
    options = ["train.levels=[2]", "train.random_rotation=false", "loss.velocity=0", "loss.fold=0"]
    whole, crops = load_config(None, options), load_config(None, [*options, "train.crop.size=14"])
    data = TrainingData.from_views(views, CPU).batch(torch.arange(6))
    draws = Draws(torch.Generator().manual_seed(0), CPU)
    with torch.no_grad():
        expected = evaluate(initial_model(whole, views, CPU), None, data, 0.0, draws)["image"].item()
        model = initial_model(crops, views, CPU)
        found = [evaluate(model, None, data, 0.0, draws)["image"].item() for _ in range(60)]
    assert np.mean(found) == pytest.approx(expected, abs=4 * np.std(found) / 60**0.5)


def test_the_references_crops_share_an_offset_and_seldom_hold_a_border() -> None:
    images, generator = torch.zeros(3, 20, 30, 3), torch.Generator().manual_seed(0)
    drawn = [inside_crops(images, 10, generator) for _ in range(4000)]
    assert all((crops.offsets == crops.offsets[0]).all() and (crops.weights == 1).all() for crops in drawn)
    offsets = torch.stack([crops.offsets[0] for crops in drawn])
    assert offsets.amin(0).tolist() == [0, 0] and offsets.amax(0).tolist() == [10, 20]
    seen = torch.zeros(20)
    for row in offsets[:, 0].tolist():
        seen[row : row + 10] += 1 / 4000
    assert seen[9:11].min() > 0.85 and seen[0] == pytest.approx(1 / 11, abs=0.02)


@pytest.mark.parametrize(
    ("overrides", "views"),
    [([], 4), (["crop.size=50"], 16), (["crop.size=80"], 6), (["crop.size=50", "views_per_iteration=3"], 3)],
)
def test_small_crops_are_more(overrides: list[str], views: int) -> None:
    config = load_config(None, [f"train.{override}" for override in overrides])
    assert views_per_iteration(config.train, 100, 120) == views


def test_a_weighted_mean_without_weights_is_the_mean() -> None:
    error = torch.rand(2, 3, 4)
    assert torch.equal(weighted_mean(error, None), error.mean())
    torch.testing.assert_close(weighted_mean(error, torch.full_like(error, 2)), 2 * error.mean())
