"""What a training costs on a CUDA device: whole iterations, what they launch and wait for, and a run from start to end.

`python -m benchmarks gpu` prints a table and writes it as JSON to `gpu.json`; docs/performance.md says how to read it.
"""

import json
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from recon.camera import Cameras, intrinsics_from_fov, look_at
from recon.config import load_config
from recon.files import writable_folder
from recon.render.renderer import render
from recon.run_folder import CHECKS, MESH_PLY, RunFolder
from recon.surface.icosphere import icosphere
from recon.training.data import TrainingData
from recon.training.initialise import initial_model
from recon.training.loop import Optimisation, Step
from recon.training.progress_line import ProgressLine
from recon.training.recorder import Recorder, thinned
from recon.training.schedule import Progress
from recon.views import Views, save_views

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PAPER = Path(__file__).parents[1] / "config" / "presets" / "paper.yaml"
WARM_UP, PROFILED = 8, 5
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


class Setting(NamedTuple):
    """A training whose iterations are measured: side of its 48 pictures, configuration and `key=value`."""

    size: int
    config: Path | None
    options: tuple[str, ...]
    iterations: int


SETTINGS = {
    "100², level 5": Setting(100, None, ("train.levels=[5]",), 200),
    "512², level 6": Setting(512, None, ("train.levels=[6]",), 100),
    "512², level 6, crops of 128": Setting(512, None, ("train.levels=[6]", "train.crop.size=128"), 100),
    "512², level 6, varying": Setting(512, None, ("train.levels=[6]", "reflectance=varying"), 100),
    "512², the paper's": Setting(512, PAPER, (), 60),
    "100², level 5, field": Setting(100, None, ("train.levels=[5]", "background=field", "field.warm_up=0"), 60),
    "100², level 5, field of an mlp": Setting(
        100, None, ("train.levels=[5]", "background=field", "field.warm_up=0", "field.representation=mlp"), 60
    ),
}


def shape(level: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A closed surface with bumps of several sizes, which hide parts of one another."""
    sphere, faces = icosphere(level, DEVICE)
    x, y, z = sphere.T
    radius = 0.55 + 0.15 * (5 * x).sin() * (4 * y + 1).sin() * (6 * z).cos() + 0.03 * (16 * y).sin() * (14 * z).sin()
    return sphere * radius[:, None], faces


def photographs(size: int, count: int = 48, wall: float = 0.0) -> Views:
    """Views of `shape` from all sides, before a wall of some radiance."""
    rng = np.random.default_rng(0)
    eyes = rng.normal(size=(count, 3))
    eyes *= 2.5 / np.linalg.norm(eyes, axis=1, keepdims=True)
    poses = look_at(eyes, np.zeros(3), np.array([0, 0, 1.0]))
    poses[:, 3] = [0, 0, 0, 1]
    intrinsics = np.tile(intrinsics_from_fov(40.0, size, size), (count, 1, 1))
    cameras = Cameras(torch.tensor(poses).float(), torch.tensor(intrinsics).float(), size, size).to(DEVICE)
    vertices, faces = shape(7 if size > 64 else 3)
    images, masks = [], []
    for i in range(count):
        rendering = render(vertices, faces, cameras[[i]], albedo=torch.full_like(vertices, 2.0), samples=2)
        images.append((rendering.radiance + (1 - rendering.alpha)[..., None] * wall).cpu())
        masks.append((rendering.alpha >= 0.5).cpu())
    stack = torch.cat(images).clamp(min=0)
    peak = float(stack.quantile(0.999)) if stack.numel() < 1e6 else float(stack.max())
    return Views(
        images=(stack / peak).numpy(),
        masks=None if wall else (torch.cat(masks) * 255).to(torch.uint8).numpy(),
        camera_to_world=poses,
        intrinsics=intrinsics,
        radiance_scale=peak,
    )


def iterations_of(setting: Setting, views: Views) -> dict[str, float]:
    """Milliseconds of an iteration as `recon train` takes them, table rows included, and what it did meanwhile."""
    config = load_config(setting.config, [*setting.options, f"train.iterations={10 * setting.iterations}"])
    progress = Progress(config.train.iterations)
    model = initial_model(config, views, DEVICE)
    optimisation = Optimisation(model, TrainingData.from_views(views, DEVICE), progress)
    sync = torch.cuda.synchronize if DEVICE.type == "cuda" else lambda: None
    with tempfile.TemporaryDirectory() as folder:
        writable_folder(RunFolder(Path(folder)).checkpoints)
        recorder = Recorder(model, {"train": thinned(views)}, progress, Path(folder), ProgressLine(quiet=True))

        def take(count: int) -> float:
            sync()
            start = time.perf_counter()
            for _ in range(count):
                _record(recorder, optimisation.step())
            _record(recorder, optimisation.settle())
            sync()
            return 1000 * (time.perf_counter() - start) / count

        first = take(1)
        take(WARM_UP)
        if DEVICE.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        milliseconds = take(setting.iterations)
        found = {"ms": milliseconds, "first_ms": first}
        if DEVICE.type == "cuda":
            found["peak_mib"] = torch.cuda.max_memory_reserved() / 2**20
            with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as prof:
                take(PROFILED)
            found |= _profiled(prof, milliseconds)
        sync()
        start = time.perf_counter()
        recorder.checkpoint(lambda: None)
        found["checkpoint_ms"] = 1000 * (time.perf_counter() - start)
    return found


def _record(recorder: Recorder, step: Step | None) -> None:
    if step is not None:
        recorder.step(step)


def _profiled(prof: Any, milliseconds: float) -> dict[str, Any]:
    """Kernels, their time, and host waits of an iteration; and the kernels that take the most time."""
    averages = prof.key_averages()
    on_device = [each for each in averages if each.device_type == torch.autograd.DeviceType.CUDA]
    kernels = [each for each in on_device if not each.key.startswith(("Memcpy", "Memset"))]
    busy = sum(each.self_device_time_total for each in on_device) / 1000 / PROFILED
    waits = sum(each.count for each in averages if each.key in WAITS) / PROFILED
    largest = sorted(on_device, key=lambda each: -each.self_device_time_total)[:25]
    return {
        "gpu_ms": busy,
        "busy": busy / milliseconds,
        "kernels": sum(each.count for each in kernels) / PROFILED,
        "waits": waits,
        "largest": [
            (each.key[:90], each.self_device_time_total / 1000 / PROFILED, each.count / PROFILED) for each in largest
        ],
    }


@contextmanager
def _without_tracking() -> Iterator[None]:
    """Where MLflow is not installed, a run leaves its folder alone."""
    try:
        import mlflow  # noqa: F401
    except ImportError:
        with mock.patch("recon.training.run.start_run", return_value=nullcontext(mock.Mock())):
            yield
    else:
        yield


def whole_run(views: Views, options: Sequence[str], size: int) -> dict[str, Any]:
    """Seconds from `views.npz` to the assets, and how far the mesh is from the shape that was photographed."""
    import trimesh

    from recon.geometry.metrics import geometry_metrics
    from recon.training.run import Options, train

    with tempfile.TemporaryDirectory() as folder, _without_tracking():
        path, out = Path(folder) / "views.npz", Path(folder) / "run"
        save_views(views, path)
        start = time.perf_counter()
        train(path, load_config(None, list(options)), out, options=Options(quiet=True))
        seconds = time.perf_counter() - start
        mesh = trimesh.load(RunFolder(out).file(MESH_PLY), process=False)
        vertices, faces = shape(7 if size > 64 else 3)
        truth = trimesh.Trimesh(vertices.cpu().numpy(), faces.cpu().numpy(), process=False)
        metrics = geometry_metrics(mesh, truth, samples=20_000)
        checks = RunFolder(out).file(CHECKS).read_text().splitlines()
    return {"seconds": seconds, "chamfer_relative": metrics.chamfer_relative, "last_check": checks[-1]}


def measure(names: Sequence[str], scale: float = 1.0, sizes: dict[int, int] | None = None) -> Iterator[tuple[str, Any]]:
    """The settings of these names; a failure is a result, too. `scale` and `sizes` make them smaller, to try it out."""
    pictures: dict[tuple[int, float], Views] = {}
    for name in names:
        setting = SETTINGS[name]
        size = (sizes or {}).get(setting.size, setting.size)
        setting = setting._replace(size=size, iterations=max(3, int(scale * setting.iterations)))
        wall = 0.2 if "background=field" in setting.options else 0.0
        try:
            if (size, wall) not in pictures:
                pictures[size, wall] = photographs(size, wall=wall)
            yield name, iterations_of(setting, pictures[size, wall])
        except Exception:  # the others are still worth measuring
            yield name, {"failed": traceback.format_exc()[-1500:]}


def row(name: str, found: dict[str, Any]) -> str:
    if "failed" in found:
        return f"| {name} | failed: {found['failed'].splitlines()[-1]} |"
    columns = ("ms", "gpu_ms", "busy", "kernels", "waits", "peak_mib", "first_ms", "checkpoint_ms")
    numbers = [found.get(column, float("nan")) for column in columns]
    return f"| {name} | " + " | ".join(f"{number:.3g}" for number in numbers) + " |"


def gpu(names: Sequence[str] = tuple(SETTINGS), out: Path = Path("gpu.json"), run: bool = True) -> str:
    """The whole table; needs a CUDA device."""
    if DEVICE.type != "cuda":
        return "gpu: no CUDA device here"
    head = "| setting | ms | of it GPU | busy | kernels | host waits | peak MiB | first ms | checkpoint ms |"
    lines = [head, "|" + " --- |" * 9]
    results: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    print(head, flush=True)
    for name, found in measure(names):
        results[name] = found
        out.write_text(json.dumps(results, indent=1))
        lines.append(row(name, found))
        print(lines[-1], file=sys.stderr, flush=True)
    if run:
        options = ["train.levels=[3,4,5,6]"]
        try:
            results["whole run, 512²"] = found = whole_run(photographs(512), options, 512)
            lines.append(f"from views.npz (48 of 512²) to assets: {found}")
        except Exception:
            results["whole run, 512²"] = {"failed": traceback.format_exc()}
            lines.append(f"whole run failed: {traceback.format_exc()[-1500:]}")
        out.write_text(json.dumps(results, indent=1))
    return "\n".join(lines)
