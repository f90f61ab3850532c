import copy
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shapes import ring, sphere_views
from torch import Tensor, nn

import recon.training.loop as loop
from recon.background.composite import chosen_pixels, composite_some
from recon.background.contraction import RADIUS, contract, expand
from recon.background.curriculum import GUIDED, Curriculum, pseudo_mask_weight
from recon.background.field import BackgroundField, OuterSegments, no_jitter
from recon.background.grid import GridField, interpolate
from recon.background.losses import LARGEST_WEIGHT, outline_weights, ray_distortion_loss, redundant_alpha_loss
from recon.background.medium import activate, start_values
from recon.background.pseudo_masks import UNSURE, PseudoMasks, inner_share
from recon.background.rays import (
    NEAR,
    Rays,
    behind_t_edges,
    front_t_edges,
    inner_t_edges,
    rays_from_between,
    rays_through,
)
from recon.background.requirements import check_given
from recon.background.visible_cells import black_beside_sphere, visible_cells
from recon.background.visual_hull import FINEST, pseudo_masks_from_field, shrunk
from recon.background.volume import RaySegment, SampledField, cell_of, render_segments
from recon.camera import Cameras
from recon.config import FieldConfig, load_config
from recon.errors import ReconError
from recon.evaluation.match import match
from recon.model.file import load_model, save_model
from recon.render.renderer import Rendering, render
from recon.surface.icosphere import icosphere
from recon.training.data import TrainingData
from recon.training.initialise import initial_model
from recon.training.loop import Optimisation, fit
from recon.training.schedule import Progress
from recon.views import Views

CPU = torch.device("cpu")
EVERYWHERE = torch.ones(8, 8, 8, dtype=torch.bool)


class Uniform(nn.Module):
    """A medium that is the same everywhere."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values = torch.tensor(values)

    def forward(self, points: Tensor) -> Tensor:
        return self.values.expand(len(points), -1)


def beam(distance: float = 3.0) -> Rays:
    """One ray through the origin and one that misses the unit sphere."""
    origins = torch.tensor([[distance, 0, 0], [distance, 0, 2.0]])
    half = torch.tensor([1.0, 0.0])
    return Rays(origins, torch.tensor([[-1.0, 0, 0], [-1.0, 0, 0]]), distance - half, distance + half)


def jitter(rays: Rays) -> Tensor:
    return torch.rand(len(rays.enter), 1)


def test_contraction_keeps_the_unit_ball_and_bounds_the_rest() -> None:
    points = torch.randn(200, 3, dtype=torch.float64) * 3
    inside = points.norm(dim=1) <= 1
    placed = contract(points)
    assert inside.any() and torch.equal(placed[inside], points[inside])
    assert (placed.norm(dim=1) < RADIUS).all()
    torch.testing.assert_close(
        contract(points * (5 / points.norm(dim=1, keepdim=True))).norm(dim=1), torch.full((200,), 1.8).double()
    )
    torch.testing.assert_close(expand(placed), points)


def test_rays_enter_and_leave_the_unit_sphere() -> None:
    cameras = ring(3, 20, 30)
    rays = rays_through(cameras, torch.arange(3 * 20 * 30))
    hits = rays.leave > rays.enter
    assert 0 < hits.float().mean() < 1
    for distance in (rays.enter, rays.leave):
        radius = (rays.origins + distance[:, None] * rays.directions).norm(dim=1)
        torch.testing.assert_close(radius[hits], torch.ones_like(radius[hits]), rtol=0, atol=1e-4)
        assert (radius[~hits] >= 1).all()


def test_the_segments_of_a_ray_cover_it_without_overlap() -> None:
    rays = beam()
    front, inner, behind = (f(rays, 8, jitter(rays)) for f in (front_t_edges, inner_t_edges, behind_t_edges))
    for t_edges in (front, inner, behind):
        assert (t_edges.diff(dim=1) >= 0).all()
    torch.testing.assert_close(front[:, 0], torch.full((2,), NEAR))
    torch.testing.assert_close(front[:, -1], rays.enter)
    torch.testing.assert_close(inner[:, 0], rays.enter)
    torch.testing.assert_close(inner[:, -1], rays.leave)
    torch.testing.assert_close(behind[:, 0], rays.leave)
    assert (behind[:, -1] > 20).all()


def test_a_uniform_medium_lets_through_what_beer_and_lambert_say() -> None:
    rays = beam()
    space = SampledField(Uniform([0.3, 0, 0, 0, 1, 0, 0, 0]), 2.0, EVERYWHERE)
    (passage,) = render_segments(space, rays, inner_t_edges(rays, 7, jitter(rays)))
    density = 2 * nn.functional.softplus(torch.tensor(0.3))
    torch.testing.assert_close(passage.transmittance, torch.exp(-density * torch.tensor([2.0, 0.0])))


def test_light_falls_with_the_squared_distance_and_ambient_light_does_not() -> None:
    opaque = 50.0
    near, far = beam(2.0), beam(4.0)

    def seen(rays: Rays, ambient: list[float]) -> Tensor:
        space = SampledField(Uniform([opaque, 1, 1, 1, 1, 0, 0, 0, *ambient]), 50.0, EVERYWHERE)
        return render_segments(space, rays, inner_t_edges(rays, 400, no_jitter(rays)))[0].radiance[0]

    torch.testing.assert_close(seen(near, []) / seen(far, []), torch.full((3,), 9.0), rtol=0.02, atol=0)
    lit = [2.0, 2.0, 2.0]
    torch.testing.assert_close(seen(near, lit) - seen(near, []), seen(far, lit) - seen(far, []), rtol=1e-4, atol=1e-5)


def test_nothing_is_where_no_cell_is_marked() -> None:
    rays = beam()
    space = SampledField(Uniform([50.0, 1, 1, 1, 1, 0, 0, 0]), 50.0, torch.zeros_like(EVERYWHERE))
    (passage,) = render_segments(space, rays, behind_t_edges(rays, 16, jitter(rays)))
    assert torch.equal(passage.transmittance, torch.ones(2))
    assert torch.equal(passage.radiance, torch.zeros(2, 3))


def test_a_diffuse_surface_is_represented_exactly() -> None:
    towards = nn.functional.normalize(torch.randn(50, 3), dim=1)
    normal = torch.tensor([0.0, 0.6, 0.8])
    values = torch.cat([torch.tensor([1.0, 2, 2, 2, 0]), normal]).expand(50, -1)
    expected = nn.functional.softplus(torch.tensor(2.0)) * (towards @ normal).clamp(min=0)
    torch.testing.assert_close(activate(values, towards).reflected, expected[:, None].expand(-1, 3))


def test_interpolation_is_trilinear() -> None:
    size, rows = 6, torch.randn(6**3, 4)
    points = (torch.rand(100, 3) * 2 - 1) * RADIUS
    volume = rows.view(1, size, size, size, 4).permute(0, 4, 1, 2, 3)
    grid = (points / RADIUS).flip(1).view(1, -1, 1, 1, 3)
    expected = nn.functional.grid_sample(volume, grid, align_corners=True)[0, :, :, 0, 0].T
    torch.testing.assert_close(interpolate(rows, size, points), expected, rtol=1e-4, atol=1e-5)


def test_total_variation_is_zero_for_what_is_uniform_and_not_otherwise() -> None:
    field = GridField(9, start_values(1.0, ambient=True))
    generator = torch.Generator().manual_seed(0)
    assert field.total_variation(50, generator).item() == 0
    with torch.no_grad():
        field.grids[1].normal_()
    assert field.total_variation(50, generator).item() > 0.1


@pytest.mark.parametrize("axis", range(3))
def test_total_variation_of_a_ramp_is_its_slope(axis: int) -> None:
    """Neighbours in memory at the ends of rows are none in space."""
    field = GridField(9, torch.zeros(1))
    for grid, size in zip(field.grids, field.sizes, strict=True):
        ramp = torch.arange(float(size)).view([-1 if i == axis else 1 for i in range(3)])
        grid.data = ramp.expand(size, size, size).reshape(-1, 1).clone()
    assert field.total_variation(5000, torch.Generator().manual_seed(0)).item() == 2  # one of each grid


def test_what_too_few_cameras_see_is_not_part_of_the_field() -> None:
    cameras = ring(8, 32, 32)[:3]
    cells = visible_cells(cameras, 32, least=2)
    beside_a_lens = contract(cameras.centers[:1] * 0.97)
    assert not cell_of(beside_a_lens, cells).any()
    assert cell_of(torch.tensor([[0.1, 0.1, 0.1], [0, 0, 0.95]]), cells).all()
    assert visible_cells(cameras, 32, least=1).sum() > cells.sum()


def test_what_one_camera_sees_behind_the_object_is_part_of_the_field() -> None:
    cameras = ring(8, 32, 32)[:3]
    beyond = contract(-1.5 * cameras.centers[:1])
    assert cell_of(beyond, visible_cells(cameras, 32, least=4)).all()
    assert not cell_of(contract(0.8 * cameras.centers[:1]), visible_cells(cameras, 32, least=4)).any()


def test_the_field_hides_and_shows() -> None:
    one, none = torch.ones(1), torch.zeros(1)
    red, green, blue = torch.eye(3).split(1)

    def around(front: float, alpha: Tensor) -> Tensor:
        stopped = torch.tensor([[1 - front]])
        layers = OuterSegments(
            RaySegment(red * (1 - front), torch.tensor([front]), stopped), RaySegment(blue, none, torch.ones(1, 1))
        )
        return layers.with_surface(green * alpha[:, None], alpha)

    torch.testing.assert_close(around(1.0, one), green)
    torch.testing.assert_close(around(1.0, none), blue)
    torch.testing.assert_close(around(0.0, one), red)
    torch.testing.assert_close(around(1.0, one / 4), green / 4 + 3 * blue / 4)


def test_surfaces_are_not_spread_and_fog_is() -> None:
    def spread(*weights: list[float]) -> float:
        rows = [torch.tensor([row], dtype=torch.float32) for row in weights]
        segments = [RaySegment(torch.zeros(1, 3), 1 - row.sum(1), row) for row in rows]
        return ray_distortion_loss(segments).item()

    surface, fog = spread([0, 1, 0, 0]), spread([0.25, 0.25, 0.25, 0.25])
    assert surface == pytest.approx(1 / 12)  # one interval of a quarter
    # A uniform density on [0, 1] has a mean distance of 1/3 between two of its points.
    assert fog == pytest.approx(1 / 3)
    assert spread([0, 0, 0, 0], [0, 1, 0, 0]) == pytest.approx(surface)
    # Half of the light stopped in one segment and half in the next, a unit of length on.
    assert spread([0, 0.5, 0, 0], [0, 1, 0, 0]) == pytest.approx(0.5 + 2 * 0.25 / 12)


def test_a_membrane_before_a_wall_of_its_colour_is_redundant() -> None:
    pixel, clear = torch.arange(4), torch.ones(4)
    wall, none = torch.full((4, 3), 0.4), torch.zeros(4, 1)
    around = OuterSegments(RaySegment(torch.zeros(4, 3), clear, none), RaySegment(wall, 0 * clear, none))
    images = torch.tensor([0.4, 0.4, 0.8, 0.4]).view(1, 2, 2, 1).expand(-1, -1, -1, 3)
    alpha = torch.tensor([0.5, 0.25, 0.5, 1.0]).view(1, 2, 2).requires_grad_()
    # Twice the wall as it is; then the object; then what is no outline.
    loss = redundant_alpha_loss(alpha, around, pixel, images)
    assert loss.item() == pytest.approx(0.8 * (0.5 + 0.25) / 4, abs=1e-6)
    loss.backward()
    assert alpha.grad is not None
    torch.testing.assert_close(alpha.grad.flatten(), torch.tensor([0.2, 0.2, 0, 0]), rtol=0, atol=1e-6)


def test_an_outline_counts_before_a_wall_as_before_black() -> None:
    pixel = torch.tensor([0, 1, 2, 4, 5])
    behind = torch.tensor([0, 0.4, 0.79, 0.4, 0.4])[:, None].expand(-1, 3)
    clear, none = torch.ones(5), torch.zeros(5, 1)
    around = OuterSegments(RaySegment(torch.zeros(5, 3), clear, none), RaySegment(behind, 0 * clear, none))
    alpha, surface = torch.tensor([0.5, 0.25, 0.5, 1.0, 1.0, 0.0]).view(1, 2, 3), 0.8
    black = torch.zeros(1, 2, 3)
    rendering = Rendering((surface * alpha)[..., None].expand(-1, -1, -1, 3), alpha, black, black)
    weights = outline_weights(rendering, around, pixel)
    # Before black, before a wall half as bright, before one as bright; then what is no outline.
    expected = torch.tensor([1, 2, LARGEST_WEIGHT, 1, 1, 1])
    torch.testing.assert_close(weights.flatten(), expected)
    wrong = 0.1 * (surface - behind[:2, 0]) * weights.flatten()[:2]
    torch.testing.assert_close(wrong, torch.full((2,), 0.1 * surface))


def test_the_first_guess_is_unsure_where_all_is_dark_and_knows_what_hides_light() -> None:
    cameras = ring(2, 4, 4)

    class Layers(BackgroundField):
        def all_segments(self, rays: Rays, jitter: Tensor) -> tuple[OuterSegments, RaySegment]:
            count = len(rays.enter)
            bright, dark = torch.ones(count, 3), torch.zeros(count, 3)
            ones, none, no = torch.ones(count), torch.zeros(count), torch.zeros(count, 1)
            behind = bright * (torch.arange(count) < 8)[:, None]
            return OuterSegments(RaySegment(dark, ones, no), RaySegment(behind, none, no)), RaySegment(dark, none, no)

    share = inner_share(Layers(FieldConfig(resolution=4), 1.0), cameras[[0]], torch.arange(16))
    # A black object hides a bright background in the first eight pixels, and nothing in the others.
    torch.testing.assert_close(share[:8, 0], torch.ones(8))
    assert (share[:8, 1] > 0.9).all()
    assert (share[8:, 0] == 0).all() and (share[8:, 1] == UNSURE).all()


class Wall(BackgroundField):
    """The same radiance behind everything, and nothing before it."""

    def __init__(self, radiance: float) -> None:
        super().__init__(FieldConfig(resolution=4), 1.0)
        self.radiance = radiance

    def outer_segments(self, rays: Rays, jitter: Tensor, covered: Tensor | None = None) -> OuterSegments:
        count = len(rays.enter)
        clear = RaySegment(torch.zeros(count, 3), torch.ones(count), torch.zeros(count, 1))
        return OuterSegments(clear, clear._replace(radiance=torch.full((count, 3), self.radiance)))


def before_a_wall(wall: float, size: int = 32) -> tuple[Cameras, Tensor, Tensor]:
    """A bright ball before a wall all around: cameras, images and masks."""
    cameras = ring(24, size, size)
    vertices, faces = icosphere(3)
    ball = render(0.5 * vertices, faces, cameras, albedo=torch.full_like(vertices, 3.0))
    return cameras, ball.radiance + (1 - ball.alpha)[..., None] * wall, ball.alpha > 0.5


def grown(pixels: Tensor, by: int) -> Tensor:
    return nn.functional.max_pool2d(pixels.float(), 2 * by + 1, stride=1, padding=by) > 0


def test_the_object_is_what_the_wall_explains_in_no_view() -> None:
    cameras, images, masks = before_a_wall(0.2)
    hidden = torch.zeros_like(masks)
    hidden[2, 14:19, 16:21] = True  # one camera sees the object as bright as the wall there
    images[hidden] = 0.2
    ghost = torch.zeros_like(masks)
    ghost[5, 2:5, 10:14] = True  # and one sees something beside it that the others do not
    assert not (ghost & masks).any()
    images[ghost] = 0.9
    inside, sure = pseudo_masks_from_field(Wall(0.2), cameras, images).unbind(3)
    far, within = ~grown(masks, 2), ~grown(~masks | hidden, 2)
    assert inside[masks].mean() > 0.95 and sure[within].mean() > 0.95
    assert inside[far].mean() < 0.02 and sure[far & ~ghost].mean() > 0.9
    assert (inside[ghost] == 0).all()
    # It is the object there, for the other views say so, but what it looks like the camera cannot say.
    assert inside[hidden].mean() > 0.95 and sure[hidden].max() < 0.05


def test_what_is_dark_before_black_is_neither_object_nor_not_by_itself() -> None:
    cameras, images, masks = before_a_wall(0.0)
    dark = torch.zeros_like(masks)
    dark[:, :, :16] = True
    images[dark & masks] = 0  # half of the ball is black in every view
    inside, sure = pseudo_masks_from_field(Wall(0.0), cameras, images).unbind(3)
    assert inside[masks & ~dark].mean() > 0.95
    assert (sure * inside)[masks & dark].mean() < 0.1


def test_large_views_are_shrunk_and_small_ones_are_not() -> None:
    cameras, images = ring(2, FINEST, FINEST), torch.rand(2, FINEST, FINEST, 3)
    assert shrunk(cameras, images)[1] is images
    large, points = ring(2, 2 * FINEST, 3 * FINEST), 0.5 * torch.randn(10, 3)
    images = torch.rand(2, 2 * FINEST, 3 * FINEST, 3)
    small, shown, _ = shrunk(large, images)
    assert (small.height, small.width) == shown.shape[1:3] == (round(2 * FINEST / 3), FINEST)
    scale = torch.tensor([1 / 3, small.height / large.height, 1])
    torch.testing.assert_close(small.project(points), large.project(points) * scale, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(shown.mean(), images.mean(), rtol=1e-2, atol=0)


def test_pseudo_masks_of_small_views_are_kept_for_whole_ones() -> None:
    cameras, images, masks = before_a_wall(0.2)
    kept = PseudoMasks(24, 64, 64)
    kept.update_from_field(Wall(0.2), cameras, images)
    assert kept.updates == 1
    guide = kept.masks[:, ::2, ::2, 0]
    assert (guide[masks] == 255).float().mean() > 0.95


def test_to_begin_with_nothing_depends_on_the_direction() -> None:
    values, towards = torch.randn(20, 8), nn.functional.normalize(torch.randn(20, 3), dim=1)
    still = activate(values, towards, view_dependent=False).reflected
    torch.testing.assert_close(still, nn.functional.softplus(values[:, 1:4]))
    assert not BackgroundField(FieldConfig(resolution=4), 1.0).space.view_dependent
    # When it begins, nothing jumps.
    start = start_values(1.0, ambient=False).expand(20, -1)
    torch.testing.assert_close(
        activate(start, towards).reflected, activate(start, towards, view_dependent=False).reflected
    )


def test_a_subset_of_pixels_stands_for_all() -> None:
    generator = torch.Generator().manual_seed(0)
    alpha = torch.zeros(2, 10, 10)
    alpha[:, 2:6, 2:6], alpha[:, 6, 2:6] = 1, 0.4
    foreground = torch.zeros(2, 10, 10, dtype=torch.bool)
    foreground[0, 3, 3] = True
    error = torch.rand(2, 10, 10)
    means = []
    for _ in range(400):
        pixel, weights = chosen_pixels(alpha, foreground, 20, generator)
        chosen = torch.zeros(200, dtype=torch.bool)
        chosen[pixel] = True
        assert chosen.view(2, 10, 10)[:, 6, 2:6].all() and chosen.view(2, 10, 10)[0, 3, 3]
        assert (weights.flatten()[~chosen & (alpha.flatten() == 0)] == 0).all()
        means.append((weights * error).mean().item())
    assert np.mean(means) == pytest.approx(error.mean().item(), abs=4 * np.std(means) / 20)


def test_of_large_pictures_outlines_and_covered_pixels_are_a_subset_too() -> None:
    generator = torch.Generator().manual_seed(0)
    alpha = torch.rand(1, 30, 30, generator=generator)
    alpha[:, 10:20], alpha[:, 20:] = 1, 0
    foreground = torch.zeros(1, 30, 30, dtype=torch.bool)
    foreground[:, 10:18] = True
    error, means = torch.rand(1, 30, 30, generator=generator), []
    for _ in range(400):
        pixel, weights = chosen_pixels(alpha, foreground, 20, generator)
        rows = torch.div(pixel, 30, rounding_mode="floor")
        assert [(rows < 10).sum(), (rows < 18).sum(), len(rows)] == [80, 100, 120]
        assert len(set(pixel.tolist())) == 120
        assert (weights[:, 18:20] == 1).all() and (weights.flatten()[pixel] > 1).all()
        means.append((weights * error).mean().item())
    assert np.mean(means) == pytest.approx(error.mean().item(), abs=4 * np.std(means) / 20)


def test_rays_from_between_cameras() -> None:
    """Around a ring of six into the unit sphere: everywhere on the ring, and not near the object."""
    centers = ring(6, 4, 4).centers
    rays = rays_from_between(centers, 2000, torch.Generator().manual_seed(0))
    radius = centers[0].norm()
    assert (torch.cdist(rays.origins, centers).amin(1) <= radius / 2 + 1e-5).all()
    assert (rays.leave > rays.enter).all() and (rays.enter > NEAR).all()
    torch.testing.assert_close(rays.directions.norm(dim=1), torch.ones(2000))
    turn = torch.atan2(rays.origins[:, 1], rays.origins[:, 0]).rad2deg() % 360
    assert torch.histc(turn, 36, 0, 360).min() > 10


def test_places_between_cameras_reach_to_the_neighbours() -> None:
    centers = torch.tensor([[0.0, 0, 9], [0, 0.1, 9], [0, 0.3, 9], [0.6, 0, 9]])
    rays = rays_from_between(centers[:3], 500, torch.Generator().manual_seed(0))
    apart = (rays.origins - torch.tensor([0, 0.15, 9])).norm(dim=1)
    assert 0.4 < apart.max() < 0.46


def test_a_single_camera_has_nothing_between() -> None:
    rays = rays_from_between(torch.tensor([[0.0, 0, 3]]), 100, torch.Generator().manual_seed(0))
    assert len(rays.enter) == 0


def test_haze_between_cameras_is_cleared_before_a_view_shows_it() -> None:
    """On the arc between two cameras, far from the only pixel that is looked at, density has a price."""
    config = load_config(None, ["background=field", "field.resolution=16", "loss.field_opacity=1"])
    cameras = ring(4, 8, 8)
    field = BackgroundField(config.field, 1.0)
    curriculum = Curriculum(field, config.loss, cameras)
    generator, alpha, pixel = torch.Generator().manual_seed(0), torch.zeros(1, 8, 8), torch.tensor([0])
    samples = curriculum.samples(cameras[[0]], pixel, torch.ones(1, 8, 8), alpha, generator)
    images, masks = torch.zeros(1, 8, 8, 3), torch.zeros(1, 8, 8, 2)
    curriculum.terms(alpha, images, masks, samples, 0.9, generator)["field_opacity"].backward()
    place = contract(2.5 * torch.nn.functional.normalize(cameras.centers[2:].mean(0), dim=0)[None])
    density = field.field.grids[1].grad[:, :1]  # type: ignore[union-attr, index]
    assert interpolate(density, 16, place).item() > 0


def test_some_pixels_are_composited_as_all_are() -> None:
    cameras = ring(2, 16, 16)
    background = BackgroundField(FieldConfig(resolution=8, samples=8), 1.0)
    with torch.no_grad():
        background.field.grids[1].normal_()  # type: ignore[union-attr, operator]
    vertices, faces = icosphere(2)
    rendering = render(0.5 * vertices, faces, cameras, albedo=torch.ones_like(vertices))
    whole = background.composite(rendering, cameras)
    pixel = torch.arange(0, 512, 3)
    rays = rays_through(cameras, pixel)
    some = composite_some(rendering, background.outer_segments(rays, no_jitter(rays)), pixel)
    torch.testing.assert_close(some.radiance.flatten(0, 2)[pixel], whole.radiance.flatten(0, 2)[pixel])
    assert whole.surface is not None and whole.background is not None
    torch.testing.assert_close(whole.surface, rendering.radiance)
    clear = rendering.alpha == 0
    torch.testing.assert_close(whole.radiance[clear], whole.background[clear])


def test_no_look_for_the_object_is_at_more_pixels_than_pseudo_masks_tell_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first one took minutes for dozens of views of some hundred pixels, in one iteration."""
    looked_at = []

    def share(background: BackgroundField, cameras: Cameras, pixels: Tensor) -> Tensor:
        looked_at.append(len(pixels))
        return torch.ones(len(pixels), 2)

    monkeypatch.setattr("recon.background.pseudo_masks.inner_share", share)
    side = 3 * FINEST
    config = load_config(None, ["background=field", "field.resolution=4"])
    curriculum = Curriculum(BackgroundField(config.field, 1.0), config.loss, ring(2, side, side))
    curriculum.update(ring(2, side, side), torch.rand(2, side, side, 3), None, fraction=config.field.warm_up)
    assert sum(looked_at) == 2 * FINEST**2
    assert (curriculum.pseudo_masks.masks == 255).all()


def test_pseudo_masks_fade() -> None:
    assert pseudo_mask_weight(0.0) == 1 and pseudo_mask_weight(GUIDED) == 0 and pseudo_mask_weight(1.0) == 0
    weights = [pseudo_mask_weight(fraction / 100) for fraction in range(101)]
    assert all(earlier >= later for earlier, later in itertools.pairwise(weights))
    assert pseudo_mask_weight(0.3) == pseudo_mask_weight(0.4) == 0.5


def test_the_surface_waits_for_the_warm_up() -> None:
    options = ["background=field", "field.warm_up=0.2", "field.resolution=4", "surface.cells=[4]"]
    room = in_a_room()
    config = load_config(None, options)
    model = initial_model(config, room, CPU)
    curriculum = Curriculum.of(model.background, config.loss, Cameras.from_views(room))
    assert curriculum is not None
    assert curriculum.warming_up(0.19) and not curriculum.warming_up(0.2)
    assert curriculum.surface_fraction(0.1) == 0
    assert curriculum.surface_fraction(0.6) == pytest.approx(0.5)
    assert curriculum.surface_fraction(1.0) == 1


@pytest.mark.parametrize("background", ["none", "constant", "given", "field"])
def test_there_is_no_curriculum_where_there_is_nothing_but_the_object(background: str) -> None:
    views = sphere_views(4, 8)
    config = load_config(None, [f"background={background}", "field.resolution=4", "surface.cells=[4]"])
    model = initial_model(config, views, CPU)
    assert Curriculum.of(model.background, config.loss, Cameras.from_views(views)) is None


def test_before_black_a_field_changes_nothing() -> None:
    views = sphere_views(4, 24)
    small = ["surface.cells=[4,8]", "surface.steps=2", "train.levels=[2]", "render.samples=1", "train.iterations=6"]
    images = []
    for background in ("none", "field"):
        options = [f"background={background}", "field.resolution=8", *small]
        model = initial_model(load_config(None, options), views, CPU)
        fit(Optimisation(model, TrainingData.from_views(views, CPU), Progress(6)), lambda step: None)
        with torch.no_grad():
            images.append(model.render(model.mesh(2), ring(2, 24, 24)).radiance)
    assert torch.equal(*images)


def test_black_is_what_is_lit_in_the_sphere_alone() -> None:
    cameras, views = ring(4, 24, 24), sphere_views(4, 24)
    images = torch.from_numpy(views.images).clone()
    assert black_beside_sphere(cameras, images)
    images[1, 0] = 0.02
    assert not black_beside_sphere(cameras, images)
    assert not black_beside_sphere(cameras, torch.from_numpy(in_a_room().images[:4]))


def in_a_room() -> Views:
    """A white ball in a hollow, patterned sphere of radius 4, which holds the cameras too."""
    cameras = ring(8, 24, 24)
    ball, hollow = icosphere(3), icosphere(4)
    vertices = torch.cat([0.5 * ball.vertices, 4 * hollow.vertices])
    faces = torch.cat([ball.faces, hollow.faces.flip(1) + len(ball.vertices)])
    pattern = 2 + torch.sin(5 * hollow.vertices)
    albedo = torch.cat([torch.ones_like(ball.vertices), pattern])
    image = render(vertices, faces, cameras, albedo=albedo, samples=2)
    mask = render(0.5 * ball.vertices, ball.faces, cameras, albedo=torch.ones_like(ball.vertices)).alpha
    views = sphere_views(8, 24)
    peak = image.radiance.max().item()
    masks = ((mask >= 0.5) * 255).to(torch.uint8).numpy()
    return replace(views, images=(image.radiance / peak).numpy(), masks=masks, radiance_scale=peak)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["grid", "mlp"])
def test_training_in_a_field(kind: str, tmp_path: Path) -> None:
    views = in_a_room()
    options = [
        "field.resolution=12",
        "field.samples=8",
        "field.rays=200",
        "field.ambient=true",
        "train.crop.size=16",
        "field.warm_up=0.6",
    ]
    small = ["surface.cells=[4,8]", "surface.steps=2", "train.levels=[2]", "render.samples=1", "train.iterations=90"]
    config = load_config(None, ["background=field", f"field.representation={kind}", *options, *small])
    model = initial_model(config, views, CPU)
    steps: list[float] = []
    optimisation = Optimisation(model, TrainingData.from_views(views, CPU), Progress(90))
    fit(optimisation, lambda step: steps.append(step.terms["image"]))
    assert np.mean(steps[:10]) > 1.2 * np.mean(steps[45:54])  # within the warm-up
    assert optimisation.curriculum is not None and optimisation.curriculum.pseudo_masks.updates == 4
    save_model(model, tmp_path / "model.pt")
    loaded = load_model(tmp_path)
    assert isinstance(loaded.background, BackgroundField) and loaded.background.space.view_dependent
    cameras = ring(2, 24, 24)
    with torch.no_grad():
        expected, found = (m.render(m.mesh(2), cameras).radiance for m in (model, loaded))
    assert torch.equal(expected, found)


@pytest.mark.slow
def test_the_warm_up_tells_the_object_from_what_is_behind_it() -> None:
    views = in_a_room()
    options = ["field.resolution=16", "field.samples=12", "field.rays=400", "field.ambient=true", "field.warm_up=0.99"]
    small = ["surface.cells=[4,8]", "surface.steps=2", "train.levels=[2]", "render.samples=1", "train.iterations=120"]
    model = initial_model(load_config(None, ["background=field", *options, *small]), views, CPU)
    optimisation = Optimisation(model, TrainingData.from_views(views, CPU), Progress(120))
    fit(optimisation, lambda step: None)
    assert optimisation.curriculum is not None and views.masks is not None
    guide, masks = optimisation.curriculum.pseudo_masks.masks[..., 0].numpy() / 255, views.masks > 127
    assert guide[masks].mean() > 0.95 and guide[~masks].mean() < 0.4


def test_a_step_that_diverges_leaves_the_field_and_its_masks_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["background=field", "field.resolution=8", "field.samples=8", "field.warm_up=0.2", "train.levels=[2]"]
    views = in_a_room()
    model = initial_model(load_config(None, [*options, "surface.cells=[4]", "train.iterations=10"]), views, CPU)
    optimisation = Optimisation(model, TrainingData.from_views(views, CPU), Progress(10))
    optimisation.progress.iteration = 2  # the surface begins, with the first masks
    before = copy.deepcopy(optimisation.state_dict())
    torch.manual_seed(0)
    monkeypatch.setattr(loop, "evaluate", lambda *_: {"image": torch.tensor(float("nan"), requires_grad=True)})
    with pytest.raises(ReconError, match="diverged"):
        optimisation.step()
    after = optimisation.state_dict()
    for part in ("model", "curriculum", "random"):
        assert all(torch.equal(value, after[part][name]) for name, value in before[part].items()), part


def test_a_given_background_is_composed_with_the_surface(tmp_path: Path) -> None:
    room = in_a_room()
    cameras = ring(8, 24, 24)
    hollow = icosphere(4)
    empty = render(
        4 * hollow.vertices, hollow.faces.flip(1), cameras, albedo=2 + torch.sin(5 * hollow.vertices), samples=2
    )
    views = replace(room, backgrounds=(empty.radiance / room.radiance_scale).numpy(), masks=None)
    small = ["surface.cells=[4,8]", "surface.steps=2", "train.levels=[2]", "render.samples=1", "train.iterations=40"]
    model = initial_model(load_config(None, ["background=given", "train.crop.size=16", *small]), views, CPU)
    steps: list[float] = []
    fit(
        Optimisation(model, TrainingData.from_views(views, CPU), Progress(40)),
        lambda step: steps.append(step.terms["image"]),
    )
    assert np.mean(steps[-5:]) < 0.5 * np.mean(steps[:5])
    found = match(model, model.mesh(2), views.select(np.array([3])))
    outside = found.alpha == 0
    assert found.background is not None and found.object is not None and views.backgrounds is not None
    np.testing.assert_array_equal(found.prediction[outside], views.backgrounds[3:4][outside])
    np.testing.assert_array_equal(found.background, views.backgrounds[3:4])
    assert (found.object[outside] == 0).all()


def test_a_background_that_is_not_given_is_one_line() -> None:
    views = sphere_views(2, 8)
    check_given("field", views, Path("views.npz"))
    check_given("given", replace(views, backgrounds=views.images), Path("views.npz"))
    with pytest.raises(ReconError, match=r"^views.npz: key 'backgrounds' is missing, which 'background: given'"):
        check_given("given", views, Path("views.npz"))


def test_masks_are_made_at_their_times_and_not_once_they_guide_nothing() -> None:
    """A budget of half a minute jumps over most of the schedule, and a look takes seconds."""
    config = load_config(None, ["background=field", "field.resolution=8", "field.warm_up=0.2"])
    curriculum = Curriculum(BackgroundField(config.field, 1.0), config.loss, ring(2, 8, 8))
    assert [curriculum.look_due(at) for at in (0.1, 0.2, 0.85, 0.9)] == [False, True, True, False]
    curriculum.pseudo_masks.updates.fill_(1)
    assert [curriculum.look_due(at) for at in (0.3, 0.33)] == [False, True]
