"""Compile every kernel for a GPU that is not there, and print their names: a program, as Triton's interpreter and its
compiler cannot serve in one process."""

import functools
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from recon.camera import Cameras
from recon.config import Integrator
from recon.render import trial
from recon.render.kernels.samples import render_samples
from recon.render.renderer import diffuse
from recon.surface.kernels import TritonSpline

CPU = torch.device("cpu")


class Absent:
    """The driver of a Hopper GPU, as far as compiling asks it."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int | None = None) -> int:
        return 0


def compile_only(kernel: JITFunction, grid: tuple[int, ...]) -> Any:
    def launch(*arguments: Any, **options: Any) -> None:
        compiled = kernel.run(*arguments, grid=grid, warmup=True, **options)
        assert compiled.asm["cubin"]
        print(kernel.fn.__module__, kernel.fn.__name__)

    return launch


def rendering(cameras: Cameras) -> None:
    vertices, faces = trial.small_mesh(CPU)
    vertices.requires_grad_()
    image, _ = render_samples(vertices, faces, cameras, torch.ones_like(vertices), diffuse, antialias=True, cull=True)
    image.sum().backward()


def flow(degree: int, integrator: Integrator) -> None:
    side = 4 + degree
    spline = TritonSpline.of(torch.zeros(3, side, side, side, requires_grad=True), degree)
    points = torch.zeros(70, 3)
    spline.trajectory(points, 0.4, 2, integrator)[-1].sum().backward()
    spline.with_jacobian(points)[1].sum().backward()


if __name__ == "__main__":
    triton.runtime.driver.set_active(Absent())
    JITFunction.__getitem__ = lambda self, grid: functools.partial(compile_only(self, grid))
    rendering(trial.small_cameras(CPU))
    flow(2, "midpoint")
    flow(3, "rk4")
