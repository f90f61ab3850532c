"""One measurement of one renderer, in a process of the Python that has it; `benchmarks.peers` starts these.

    PYTHON -m benchmarks.peer '{"peer": "recon", "task": "view", "level": 4, "size": 100}'

prints what was measured as the last line, JSON.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.render import DEVICE, bumpy_sphere, camera
from recon.camera import Cameras
from recon.config import load_config
from recon.render.renderer import Rendering, render
from recon.surface.icosphere import icosphere
from recon.training.data import TrainingData
from recon.training.initialise import initial_model
from recon.training.loop import Optimisation
from recon.training.schedule import Progress
from recon.views import Views, load_views

LEVEL = 4
"""Of the icosphere that every peer fits to photographs."""

MITSUBA_RATE = 0.4
"""Step size at the start: on the star, 20 processor seconds with 0.02, 0.1 and 0.4 came to chamfer distances of 0.30,
0.18 and 0.11."""

TRAINING = ["reflectance=constant", f"train.levels=[{LEVEL}]"]
BACKENDS = {
    "recon": [],
    "PyTorch3D, hard": ["render.backend=pytorch3d", "render.antialias=false"],
    "PyTorch3D, soft": ["render.backend=pytorch3d"],
}
"""What renders in a training of recon."""

Measured = dict[str, Any]


def main() -> None:
    request = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    tasks = {"view": view, "iteration": iteration, "fit": fit}
    print(json.dumps(tasks[request.pop("task")](**request)))


def view(peer: str, level: int, size: int) -> Measured:
    """One view of `size` x `size` pixels and 20 * 4^level faces, one sample a pixel, forward and backward."""
    vertices, faces = bumpy_sphere(level)
    if peer == "Mitsuba 3":
        from benchmarks import peer_mitsuba

        version = peer_mitsuba.choose_variant()
        call = peer_mitsuba.view_call(vertices.numpy(), faces.numpy(), camera(size))
    else:
        draw, version = renderer(peer)
        call = _torch_call(draw, vertices, faces, camera(size))
    return {"version": version, **timed(call)}


def renderer(peer: str) -> tuple[Callable[..., Rendering], str]:
    """What renders as `recon.render.renderer.render` does, and its version."""
    if peer == "recon":
        return render, f"recon, torch {torch.__version__}"
    if peer == "nvdiffrast":
        from benchmarks import peer_nvdiffrast

        return peer_nvdiffrast.render, peer_nvdiffrast.version()
    from functools import partial
    from importlib.metadata import version

    from recon.render import pytorch3d

    draw = partial(pytorch3d.render, antialias=peer != "PyTorch3D, hard")
    return draw, f"{version('easypytorch3d')}, torch {torch.__version__}"


def _torch_call(
    draw: Callable[..., Rendering], vertices: torch.Tensor, faces: torch.Tensor, cameras: Cameras
) -> Callable[[], None]:
    def call() -> None:
        moved = vertices.detach().requires_grad_()
        draw(moved, faces, cameras, albedo=torch.ones_like(moved)).radiance.sum().backward()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()

    return call


def timed(call: Callable[[], object], seconds: float = 4.0) -> Measured:
    """Least processor and wall-clock milliseconds of a call, and the megabytes that calls add to the process."""
    before = _megabytes()
    call()  # compiles, and fills caches
    processor, wall = [], []
    while not processor or (sum(processor) < 1000 * seconds and len(processor) < 30):
        start = time.process_time(), time.perf_counter()
        call()
        processor.append(1000 * (time.process_time() - start[0]))
        wall.append(1000 * (time.perf_counter() - start[1]))
    return {"processor_ms": min(processor), "wall_ms": min(wall), "megabytes": _megabytes() - before}


def _megabytes() -> float:
    """The most memory that the process has had; on a GPU, that torch has had there."""
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def iteration(peer: str, level: int, views: str) -> Measured:
    """An iteration of a training of recon, four views, with what renders in it; the first warms up."""
    loaded = load_views(Path(views))
    config = load_config(None, [*TRAINING, *BACKENDS[peer], f"train.levels=[{level}]"])
    optimisation = _optimisation(loaded, config, Progress(1000))
    return timed(optimisation.step)


def _optimisation(views: Views, config: Any, progress: Progress) -> Optimisation:
    model = initial_model(config, views, DEVICE)
    return Optimisation(model, TrainingData.from_views(views, DEVICE), progress)


def fit(peer: str, views: str, out: str, seconds: float | None = None, iterations: int = 0) -> Measured:
    """Fit the icosphere to photographs; snapshots of the surface go to the file `out`.

    recon takes `iterations`, others the processor's `seconds`.
    """
    loaded = load_views(Path(views))
    if peer == "recon":
        snapshots = list(_recon(loaded, iterations))
    else:
        assert seconds is not None
        snapshots = list(_mitsuba(loaded, seconds))
    spent, vertices, albedo = (np.stack(each) for each in zip(*snapshots, strict=True))
    np.savez(out, seconds=spent, vertices=vertices, albedo=albedo, faces=icosphere(LEVEL).faces.numpy())
    return {"seconds": float(spent[-1])}


def _recon(views: Views, iterations: int) -> Iterator[tuple[Any, Any, Any]]:
    started, spent = time.process_time(), 0.0
    optimisation = _optimisation(
        views, load_config(None, [*TRAINING, f"train.iterations={iterations}"]), Progress(iterations)
    )
    model, progress = optimisation.model, optimisation.progress
    while progress.fraction < 1:
        optimisation.step()
        done = progress.iteration
        if done & (done - 1) == 0 or progress.fraction >= 1:
            spent += time.process_time() - started
            with torch.no_grad():
                mesh = model.mesh(LEVEL)
            yield np.array(spent), mesh.vertices.cpu().numpy(), mesh.attributes[0].cpu().numpy()
            started = time.process_time()


def _mitsuba(views: Views, seconds: float) -> Iterator[tuple[Any, Any, Any]]:
    """From recon's own first guess: its sphere, and its albedo."""
    from benchmarks import peer_mitsuba

    peer_mitsuba.choose_variant()
    model = initial_model(load_config(None, TRAINING), views, torch.device("cpu"))
    sphere, faces = icosphere(LEVEL)
    with torch.no_grad():
        albedo = model.reflectance.albedo(sphere)[0].double().numpy()
    for found in peer_mitsuba.fitting(sphere.numpy(), faces.numpy(), views, albedo, seconds, MITSUBA_RATE):
        yield np.array(found.seconds), found.vertices, found.albedo


if __name__ == "__main__":
    main()
