"""Loss terms of a background's field, on few rays and pixels."""

import numpy as np
import pytest
import torch

from recon.background.field import OuterSegments
from recon.background.losses import (
    BEYOND,
    WITHIN,
    haze_loss,
    opacity_loss,
    outline_weights,
    pseudo_mask_loss,
    ray_distortion_loss,
    redundant_alpha_loss,
)
from recon.background.rays import Rays
from recon.background.volume import RaySegment
from recon.render.renderer import Rendering


def segment(transmittance: list[float], radiance: float = 0.0) -> RaySegment:
    count = len(transmittance)
    return RaySegment(torch.full((count, 3), radiance), torch.tensor(transmittance), torch.zeros(count, 1))


def test_a_pixel_counts_as_far_as_its_mask_is_sure() -> None:
    alpha = torch.tensor([[[0.75, 0.5, 0.25]]])
    masks = torch.tensor([[[[1.0, 1.0], [0.0, 0.5], [1.0, 0.0]]]])
    assert pseudo_mask_loss(alpha, masks).item() == pytest.approx((0.25 + 0.25) / 3)


def test_opacity_is_dear_before_the_sphere_and_cheap_beside_it() -> None:
    """One ray through the unit sphere, one beside it and one that touches it."""
    rays = Rays(torch.zeros(3, 3), torch.zeros(3, 3), torch.tensor([2.0, 3, 3]), torch.tensor([4.0, 2, 3]))
    outer = OuterSegments(segment([0.75, 0.5, 1.0]), segment([0.5, 1.0, 1.0]))
    expected = (0.25 + BEYOND * 0.5) / 3 + BEYOND * 0.5 / 3
    assert opacity_loss(rays, outer).item() == pytest.approx(expected)
    inside = segment([0.5, 1.0, 0.75])
    assert opacity_loss(rays, outer, inside).item() == pytest.approx(expected + WITHIN * (0.5 + 0.25) / 3)
    touched = OuterSegments(segment([1.0, 1.0, 0.5]), segment([1.0, 1.0, 1.0]))
    assert opacity_loss(rays, touched).item() == pytest.approx(BEYOND * 0.5 / 3)


def test_haze_between_cameras_has_a_price() -> None:
    """As opaque as it is, and as bright: thin haze of a high albedo glares right before a flash."""
    assert haze_loss(segment([1.0, 0.5, 0.75], radiance=0.5)).item() == pytest.approx(0.75)
    assert haze_loss(segment([])).item() == 0


def test_weights_of_outlines_are_finite() -> None:
    """Where nothing is seen, before what is just as bright, before what is brighter, where all is black, and where
    too little is seen."""
    alpha = torch.tensor([[[0.0, 0.5, 0.5, 0.5, 0.5, 5e-4]]])
    radiance = torch.tensor([0.0, 0.4, 0.4, 0.4, 0.0, 8e-4]).view(1, 1, 6, 1).expand(-1, -1, -1, 3)
    rendering = Rendering(radiance, alpha, alpha, radiance)
    wall = torch.tensor([0.8, 0.8, 1.2, 2.4, 0.0, 0.7])[:, None].expand(-1, 3)
    behind = RaySegment(wall, torch.zeros(6), torch.zeros(6, 1))
    weights = outline_weights(rendering, OuterSegments(segment([1.0] * 6), behind), torch.arange(6)).flatten()
    torch.testing.assert_close(weights, torch.tensor([1.0, 4.0, 2.0, 1.0, 1.0, 1.0]))


def test_what_differs_more_from_the_wall_is_less_redundant() -> None:
    """By a Gaussian of the difference, brighter or darker, also where the colours' differences add up to nothing."""
    wall = RaySegment(torch.full((4, 3), 0.4), torch.zeros(4), torch.zeros(4, 1))
    outer = OuterSegments(segment([1.0] * 4), wall)
    difference = torch.tensor([[0.0, 0, 0], [0.1, 0.1, 0.1], [0.15, -0.15, 0], [-0.2, -0.2, -0.2]])
    images = (0.4 + difference).view(1, 1, 4, 3)
    alpha = torch.full((1, 1, 4), 0.5)
    loss = redundant_alpha_loss(alpha, outer, torch.arange(4), images, alike=0.1)
    expected = 0.8 * 0.5 * (1 + 2 * torch.exp(torch.tensor(-1.0)) + torch.exp(torch.tensor(-4.0))) / 4
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_random_part_of_the_outline_prices_alpha_as_all_of_it_does() -> None:
    generator = torch.Generator().manual_seed(0)
    alpha, images = torch.rand(1, 4, 5, generator=generator) / 2 + 0.1, torch.rand(1, 4, 5, 3, generator=generator)
    light = RaySegment(torch.rand(20, 3, generator=generator), torch.zeros(20), torch.zeros(20, 1))
    whole = redundant_alpha_loss(alpha, OuterSegments(segment([1.0] * 20), light), torch.arange(20), images)
    parts = []
    for i in range(20):
        here = RaySegment(*(values[i : i + 1] for values in light))
        outer, pixel, weights = OuterSegments(segment([1.0]), here), torch.tensor([i]), torch.tensor([20.0])
        parts.append(redundant_alpha_loss(alpha, outer, pixel, images, weights=weights).item())
    assert np.mean(parts) == pytest.approx(whole.item(), rel=1e-5)


def test_where_no_ray_is_followed_nothing_is_lost() -> None:
    """Crops that the surface covers wholly."""
    none = torch.zeros(0, 3)
    rays = Rays(none, none, torch.zeros(0), torch.zeros(0))
    empty = RaySegment(none, torch.zeros(0), torch.zeros(0, 4))
    assert opacity_loss(rays, OuterSegments(empty, empty), empty).item() == 0
    assert ray_distortion_loss([empty, empty]).item() == 0


def test_pixels_that_no_photograph_shows_price_no_surface() -> None:
    wall = RaySegment(torch.full((4, 3), 0.4), torch.zeros(4), torch.zeros(4, 1))
    outer = OuterSegments(segment([1.0] * 4), wall)
    alpha = torch.full((1, 1, 4), 0.5, requires_grad=True)
    known = torch.tensor([1.0, 0, 1, 0]).view(1, 1, 4)
    redundant_alpha_loss(alpha, outer, torch.arange(4), torch.full((1, 1, 4, 3), 0.4), known=known).backward()
    np.testing.assert_allclose(alpha.grad, [[[0.2, 0, 0.2, 0]]], rtol=1e-6)


def test_segments_of_few_and_of_many_samples_are_as_long() -> None:
    """One interval of length 1 and then two of 1/2; a second ray that nothing stops."""
    first = RaySegment(torch.zeros(2, 3), torch.tensor([0.5, 1.0]), torch.tensor([[0.5], [0.0]]))
    second = RaySegment(torch.zeros(2, 3), torch.tensor([0.0, 1.0]), torch.tensor([[0.25, 0.75], [0.0, 0.0]]))
    # Weights 1/2, 1/8, 3/8 in the middles 1/2, 5/4, 7/4.
    apart = 2 * (0.5 * 0.125 * 0.75 + 0.5 * 0.375 * 1.25 + 0.125 * 0.375 * 0.5)
    within = 0.5**2 / 3 + (0.125**2 + 0.375**2) / 6
    assert ray_distortion_loss([first, second]).item() == pytest.approx((apart + within) / 2)
