"""One view, forward and backward: the whole of it, and a crop of it."""

import functools
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.timing import median_milliseconds, medians_in_turn
from recon.camera import Cameras, intrinsics_from_fov, look_at
from recon.config import WHOLE_VIEWS, RunConfig
from recon.render.renderer import render
from recon.surface.icosphere import icosphere
from recon.training.crop import draw_crops, views_per_iteration

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def camera(size: int) -> Cameras:
    """One view of the unit sphere at the reference's distance and field of view."""
    pose = look_at(np.array([[2.5, 0.0, 0.3]]), np.zeros(3), np.array([0.0, 0, 1]))
    intrinsics = intrinsics_from_fov(49.0, size, size)[None]
    return Cameras(torch.tensor(pose).float(), torch.tensor(intrinsics).float(), size, size).to(DEVICE)


@functools.cache
def bumpy_sphere(level: int) -> tuple[torch.Tensor, torch.Tensor]:
    sphere, faces = icosphere(level, DEVICE)
    bumps = 0.6 + 0.15 * (5 * sphere[:, :1]).sin() * (4 * sphere[:, 1:2] + 1).sin()
    return sphere * bumps, faces


def forward_and_backward(cameras: Cameras, level: int, samples: int) -> None:
    vertices, faces = bumpy_sphere(level)
    vertices = vertices.detach().requires_grad_()
    image = render(vertices, faces, cameras, albedo=torch.ones_like(vertices), samples=samples)
    image.radiance.sum().backward()


def one_view() -> str:
    times = {s: median_milliseconds(lambda s=s: forward_and_backward(camera(100), 5, s)) for s in (1, 2)}
    return (
        f"render: one 100x100 view of 20,480 faces, forward and backward: {times[1]:.1f} ms with one sample "
        f"a pixel, {times[2]:.1f} ms with 2x2 ({DEVICE}, {torch.get_num_threads()} threads)"
    )


def crop() -> str:
    """An iteration in crops against one of as many whole views: as many as a training in crops has, and four."""
    usual = views_per_iteration(RunConfig.model_validate({"train": {"crop": {"size": 50}}}).train, 100, 100)
    # The few first: after larger calls the heap makes them slower.
    of_few, of_usual = (compared(count) for count in (WHOLE_VIEWS, usual))
    return (
        f"crop: rendering an iteration in {usual} crops of 50x50 of 100x100, as a training does, forward and "
        f"backward, costs {of_usual}; in {WHOLE_VIEWS} crops, {of_few} ({DEVICE}, {torch.get_num_threads()} threads)"
    )


def compared(count: int) -> str:
    whole, part = medians_in_turn([whole_views(count), crops(count)])
    return f"{part / whole:.2f} of {count} whole views ({part:.1f} of {whole:.1f} ms)"


def whole_views(count: int) -> Callable[[], None]:
    return functools.partial(forward_and_backward, camera(100)[[0] * count], 4, 2)


def crops(count: int) -> Callable[[], None]:
    views, anywhere = camera(100)[[0] * count], torch.ones(count, 100, 100, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)

    def call() -> None:
        offsets = draw_crops(anywhere, 50, generator).offsets.to(DEVICE)
        forward_and_backward(views.cropped(offsets, 50, 50), 4, 2)

    return call
