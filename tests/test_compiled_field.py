"""The field's light along rays by Numba's loops against the same in torch."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from shapes import sphere_views
from torch import Tensor

import recon.background.volume as volume
import recon.processor as processor
from recon.background.grid import GridField
from recon.background.medium import start_values
from recon.background.mlp import MlpField
from recon.background.rays import Rays
from recon.background.trial import check, small_field
from recon.background.volume import SampledField, compiled_segments, render_segments, torch_segments
from recon.config import load_config
from recon.training.data import TrainingData
from recon.training.initialise import initial_model
from recon.training.loop import Optimisation
from recon.training.schedule import Progress

CPU = torch.device("cpu")


def followed(follow: Any, space: SampledField, rays: Rays, segments: list[Tensor]) -> list[Tensor]:
    """Light, weights, and the gradients of a random sum over both by the grids and the lights."""
    leaves = list(space.field.parameters())
    if rays.lights is not None:
        rays = rays._replace(lights=rays.lights.clone().requires_grad_())
        leaves.append(rays.lights)
    values = torch.cat([each.flatten() for light in follow(space, rays, *segments) for each in light])
    by = torch.randn(values.shape, generator=torch.Generator().manual_seed(1))
    gradients = torch.autograd.grad((values * by).sum(), leaves)
    assert all(each.any() for each in gradients)
    return [values.detach(), *gradients]


def assert_alike(space: SampledField, rays: Rays, segments: list[Tensor]) -> None:
    results = [followed(each, space, rays, segments) for each in (torch_segments, compiled_segments)]
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-6 * expected.abs().max().item())


@pytest.mark.parametrize("lit", ["at the camera", "beside it"])
@pytest.mark.parametrize("ambient", [False, True])
@pytest.mark.parametrize("view_dependent", [False, True])
def test_light_and_gradients_are_those_of_torch(view_dependent: bool, ambient: bool, lit: str) -> None:
    space, rays, segments = small_field(ambient)
    lights = rays.origins + torch.tensor([0.4, -0.2, 0.3]) if lit == "beside it" else None
    if lights is not None:
        lights[:3] = rays.origins[:3] + rays.directions[:3]  # in the field: nearer than the light may be
    assert_alike(space._replace(view_dependent=view_dependent), rays._replace(lights=lights), segments)


def test_what_is_opaque_hides_what_is_behind_it() -> None:
    space, rays, segments = small_field(ambient=True)
    for grid in space.field.parameters():
        grid.data[:, 0] += 30.0
    assert_alike(space, rays, segments)
    light = compiled_segments(space, rays, *segments)
    assert (light[1].transmittance < 1e-6).float().mean() > 0.5
    with torch.no_grad():  # what is behind is not looked up
        for found, expected in zip(compiled_segments(space, rays, *segments), light, strict=True):
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_three_segments_and_one_interval() -> None:
    space, rays, (front, behind) = small_field(ambient=False)
    assert_alike(space, rays, [front, behind[:, :2], behind])


def test_without_gradient_light_is_the_same() -> None:
    space, rays, segments = small_field(ambient=True)
    expected = compiled_segments(space, rays, *segments)
    with torch.no_grad():
        found = compiled_segments(space, rays, *segments)
    for one, other in zip(expected, found, strict=True):
        assert all(map(torch.equal, one, other))


def test_no_rays_and_empty_space_are_no_light() -> None:
    space, rays, segments = small_field(ambient=False)
    nothing = space._replace(cells=torch.zeros_like(space.cells))
    (front, behind) = compiled_segments(nothing, rays, *segments)
    assert not behind.radiance.any() and not front.weights.any() and (front.transmittance == 1).all()
    (behind.radiance.sum() + front.transmittance.sum()).backward()
    assert not any(grid.grad.any() for grid in space.field.parameters() if grid.grad is not None)
    none = Rays(*(each[:0] for each in rays[:4]))
    (light,) = compiled_segments(space, none, segments[0][:0])
    light.radiance.sum().backward()
    assert light.radiance.shape == (0, 3) and light.weights.shape == (0, 6)


def test_what_is_no_number_stays_that() -> None:
    space, rays, segments = small_field(ambient=False)
    space.field.grids[1].data.fill_(torch.nan)  # type: ignore[index]
    assert compiled_segments(space, rays, *segments)[1].radiance.isnan().any()


def many_rays() -> tuple[SampledField, Rays, list[Tensor]]:
    """So many that they are cut into parts."""
    space, rays, segments = small_field(ambient=True)
    return (
        space,
        Rays(*(each.repeat(30, *[1] * (each.dim() - 1)) for each in rays)),
        [each.repeat(30, 1) for each in segments],
    )


def test_any_number_of_threads_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(processor, "_for_loops", threads)
        results.append(followed(compiled_segments, *many_rays()))
    for one, two, three in zip(*results, strict=True):
        assert torch.equal(one, two) and torch.equal(one, three)


def test_a_training_has_the_same_weights_with_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ["background=field", "train.levels=[2]", "surface.cells=[2,4]", "field.resolution=8", "field.rays=300"]
    views = sphere_views(4, 24)
    views = replace(views, images=views.images + 0.1)
    weights = []
    for threads in (1, 2):
        monkeypatch.setattr(processor, "_for_loops", threads)
        torch.manual_seed(0)
        model = initial_model(load_config(None, [*settings, "light.offset=true"]), views, CPU)
        optimisation = Optimisation(model, TrainingData.from_views(views, CPU), Progress(12))
        for _ in range(6):
            optimisation.step()
        weights.append([each.detach().clone() for each in model.parameters()])
    assert all(map(torch.equal, *weights))


def test_grids_are_followed_by_compiled_loops_and_networks_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(volume, "torch_segments", lambda *_: called.append("torch") or torch_segments(*_))
    space, rays, segments = small_field(ambient=False)
    render_segments(space, rays, *segments)
    assert not called
    render_segments(space._replace(field=MlpField(start_values(1.0, False))), rays, *segments)
    assert called == ["torch"]


def test_a_trial_notices_wrong_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    check(CPU)
    wrong = [lambda space, *rest: compiled_segments(space._replace(sharpness=1.01 * space.sharpness), *rest)]
    monkeypatch.setattr("recon.background.trial.compiled_segments", wrong[0])
    with pytest.raises(RuntimeError, match="is not that of torch"):
        check(CPU)


def test_torch_serves_where_numba_does_not() -> None:
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "from recon.background.trial import small_field\n"
        "from recon.background.volume import render_segments\n"
        "space, rays, segments = small_field(True)\n"
        "print(len(render_segments(space, rays, *segments)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout == "2\n"
    assert done.stderr.startswith("recon: the background's field in plain torch, more slowly, as Numba does not serve")


def test_a_field_on_another_device_or_of_double_precision_is_followed_in_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called = []
    monkeypatch.setattr(volume, "torch_segments", lambda *_: called.append("torch") or torch_segments(*_))
    space, rays, segments = small_field(ambient=False)
    space = space._replace(field=GridField(6, start_values(1.0, False)).double())
    render_segments(space, Rays(*(each.double() for each in rays[:4])), *(each.double() for each in segments))
    assert called == ["torch"]
