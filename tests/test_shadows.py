"""Cast shadows: where geometry says exactly what is dark."""

import numpy as np
import pytest
import torch
from shapes import ring

from recon.render.lighting import ShadowedLights, cast
from recon.render.normals import unit, vertex_normals
from recon.render.renderer import diffuse, render
from recon.render.shadows import depth_map, mean_bend
from recon.surface.icosphere import icosphere

RADIUS, HEIGHT = 0.4, 0.8
"""Of a ball over the plane z = 0."""

LIGHTS = {
    "above": [0.0, 0.0, 9.0, 1.0],
    "beside": [4.0, -3.0, 7.0, 1.0],
    "near": [1.2, 0.0, 1.3, 1.0],
    "between": [0.0, 0.0, 0.2, 1.0],
    "sun": [0.48, 0.0, 0.877268, 0.0],
}


def ball_over_plane() -> tuple[torch.Tensor, torch.Tensor]:
    sphere, faces = icosphere(4)
    line = torch.linspace(-2, 2, 33)
    x, y = torch.meshgrid(line, line, indexing="xy")
    plane = torch.stack([x.flatten(), y.flatten(), torch.zeros(33 * 33)], dim=1)
    first = (torch.arange(32)[:, None] * 33 + torch.arange(32)).flatten()
    square = torch.stack([first, first + 1, first + 34, first, first + 34, first + 33], dim=1).view(-1, 3)
    ball = RADIUS * sphere + torch.tensor([0, 0, HEIGHT])
    return torch.cat([ball, plane]), torch.cat([faces, square + len(ball)])


def on_plane(count: int) -> torch.Tensor:
    """Points at the centres of count x count squares."""
    line = (torch.arange(count) + 0.5) / count * 3.9 - 1.95
    x, y = torch.meshgrid(line, line, indexing="xy")
    return torch.stack([x.flatten(), y.flatten(), torch.zeros(count * count)], dim=1)


def in_the_ball_s_shadow(points: torch.Tensor, light: torch.Tensor, radius: float) -> torch.Tensor:
    """Whether the way from points to the light meets a ball of this radius."""
    way = light[:3] - light[3] * points
    to_light = unit(way.T).T
    to_center = torch.tensor([0, 0, HEIGHT]) - points
    along = (to_center * to_light).sum(1)
    misses = (to_center - along[:, None] * to_light).norm(dim=1) > radius
    beyond = (along > way.norm(dim=1)) if light[3] > 0 else torch.zeros_like(misses)
    return (along > 0) & ~misses & ~beyond


@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize(("size", "kernel"), [(1024, 1), (256, 0)])
def test_the_shadow_of_a_ball_on_a_plane(light: str, size: int, kernel: int) -> None:
    where, points = torch.tensor(LIGHTS[light]), on_plane(150)
    normals = torch.tensor([0.0, 0, 1]).expand_as(points)
    share = depth_map(*ball_over_plane(), where, size, kernel).visibility(points, normals)
    # The mesh lies within the ball; beside its outline, as wide as the filter, there is half-light. The map is 2 x 2.9
    # wide where the ball is.
    filtered = (kernel + 2) * 2 * 2.9 / size
    dark = in_the_ball_s_shadow(points, where, RADIUS * 0.99 - filtered)
    lit = ~in_the_ball_s_shadow(points, where, RADIUS + filtered)
    assert share[lit].min() > 1 - 1e-6
    if light == "between":
        assert not dark.any()
    else:
        assert dark.sum() > 100
        assert share[dark].max() == 0


@pytest.mark.parametrize("light", [[3.0, 1, 2, 1], [0.54, 0.6, 0.59, 0], [0.9, 0, 0, 1], [100.0, 0, 0, 1]])
@pytest.mark.parametrize("level", [2, 4])
def test_a_ball_casts_no_shadow_on_itself(level: int, light: list[float]) -> None:
    """No acne: what smooth normals turn to the light is lit, up to the outline's last facets."""
    sphere, faces = icosphere(level)
    vertices, where = 0.7 * sphere, torch.tensor(light)
    corners = torch.randint(len(faces), (5000,))
    mix = torch.rand(5000, 3)
    mix = (mix / mix.sum(1, keepdim=True))[..., None]
    points = (vertices[faces[corners]] * mix).sum(1)
    normals = unit((vertex_normals(vertices, faces)[faces[corners]] * mix).sum(1).T).T
    cosine = (unit((where[:3] - where[3] * points).T).T * normals).sum(1)
    facing = cosine > 0
    share = depth_map(vertices, faces, where, 1024).visibility(points[facing], normals[facing])
    assert share[cosine[facing] > 2 * mean_bend(vertices, faces)].min() > 1 - 1e-6
    lost = ((1 - share) * cosine[facing]).sum() / cosine[facing].sum()
    assert lost < 1e-3


def test_bend_of_an_icosphere_goes_with_its_edges() -> None:
    bends = [mean_bend(*icosphere(level)) for level in (2, 3, 4)]
    assert bends[0] / bends[1] == pytest.approx(2, rel=0.05)
    assert bends[1] / bends[2] == pytest.approx(2, rel=0.05)


def test_a_light_in_the_camera_s_place_gives_the_flash_s_picture() -> None:
    """What the camera sees, its own light reaches: only at outlines filters see what is behind."""
    vertices, faces = ball_over_plane()
    camera = ring(1, 48, 48, radius=4.0)
    light = torch.nn.functional.pad(camera.centers, (0, 1), value=1.0)
    lighting = cast(vertices, faces, light, torch.ones(1, 3), 1024, kernel=1)
    flash, lamp = (
        render(vertices, faces, camera, albedo=torch.ones_like(vertices), lighting=each).radiance
        for each in (None, lighting)
    )
    assert (flash - lamp).abs().mean() < 2e-3 * flash.mean()
    assert (flash - lamp).abs().max() < 0.5 * flash.max()


def test_lights_add_up_with_their_colours() -> None:
    sphere, faces = icosphere(3)
    camera, attributes = ring(1, 24, 24), torch.ones_like(sphere)
    lights = torch.tensor([[2.0, 1, 1, 1], [0.0, 0, 1, 0]])
    colors = torch.tensor([[1.0, 0.5, 0.25], [0.1, 0.2, 0.3]])

    def picture(chosen: list[int]) -> torch.Tensor:
        lighting = cast(0.6 * sphere, faces, lights[chosen], colors[chosen], 256, kernel=0)
        return render(0.6 * sphere, faces, camera, albedo=attributes, lighting=lighting).radiance

    torch.testing.assert_close(picture([0, 1]), picture([0]) + picture([1]))
    red, green, _ = picture([0]).unbind(-1)
    torch.testing.assert_close(green, 0.5 * red)


def test_a_picture_without_the_object_is_black() -> None:
    sphere, faces = icosphere(1)
    away = ring(1, 8, 8)
    lighting = cast(sphere, faces, torch.tensor([[0.0, 0, 3, 1]]), torch.ones(1, 3), 64, kernel=0)
    rendered = render(sphere + 100, faces, away, albedo=torch.ones_like(sphere), lighting=lighting)
    assert not rendered.radiance.any()


def test_points_are_lit_in_parts_as_they_are_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sphere, faces = icosphere(3)
    lights: ShadowedLights = cast(sphere, faces, torch.tensor([[0.0, 1, 3, 1]]), torch.ones(1, 3), 128, kernel=1)
    points, centers = sphere, torch.tensor([[3.0, 0, 0]]).expand_as(sphere)
    whole = lights(points, sphere, centers, torch.ones_like(points), diffuse)
    monkeypatch.setattr("recon.render.lighting.PART", 100)
    torch.testing.assert_close(lights(points, sphere, centers, torch.ones_like(points), diffuse), whole)
    assert np.isfinite(whole.numpy()).all() and whole.max() > 0.1
