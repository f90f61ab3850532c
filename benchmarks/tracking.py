"""What tracking costs a training: processor time, which other programs on the machine change little."""

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from recon.camera import Cameras, intrinsics_from_fov, look_at
from recon.config import load_config
from recon.render.renderer import render
from recon.surface.icosphere import icosphere
from recon.tracking import Exporter
from recon.tracking.export import Export
from recon.training.run import Options, train
from recon.training.trainer import Trainer
from recon.views import Views, save_views


def tracking_share(iterations: int = 120) -> str:
    """Of a training like the demo's: 36 views of 100 x 100, states and metrics every 10 s, 10 checkpoints."""
    spent: dict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        save_views(_ball(36, 100), Path(folder) / "views.npz")
        restore = [
            _timed(Trainer, "run", time.process_time, lambda *_: "training", spent),
            _timed(Exporter, "release", time.thread_time, lambda *_: "hot", spent),
            _timed(Exporter, "log_image", time.thread_time, lambda *_: "hot", spent),
            _timed(Export, "__call__", time.thread_time, _how_often, spent),
        ]
        config = load_config(None, ["reflectance=constant", f"train.iterations={iterations}", "train.save_every=10"])
        train(Path(folder) / "views.npz", config, Path(folder) / "run", options=Options(quiet=True))
        for undo in restore:
            undo()
    share = 100 * (spent["hot"] + spent["along"]) / spent["training"]
    return (
        f"tracking: {share:.2f} % of the processor time of {iterations} iterations "
        f"({spent['hot']:.3f} s in the training's thread and {spent['along']:.2f} s beside it, "
        f"of {spent['training']:.0f} s), "
        f"and {spent['once']:.1f} s once a run"
    )


def _timed(
    owner: type, method: str, clock: Callable[[], float], kind: Callable[..., str], spent: dict[str, float]
) -> Callable[[], None]:
    """Count the time of a method's calls; returns what takes that back."""
    original = getattr(owner, method)

    def timed(*args: Any, **kwargs: Any) -> Any:
        name, start = kind(*args), clock()
        try:
            return original(*args, **kwargs)
        finally:
            spent[name] += clock() - start

    setattr(owner, method, timed)
    return lambda: setattr(owner, method, original)


def _how_often(export: Export, *_: object) -> str:
    """The first call finds the run and the last sends files, once a run; the others go along with its states."""
    return "along" if export._record.run_id and export._record.status == "RUNNING" else "once"


def _ball(count: int, size: int) -> Views:
    """Photographs of a white ball from all around, black behind it."""
    angles = torch.linspace(0, 2 * torch.pi, count + 1)[:-1].double()
    eyes = 2.5 * torch.stack([angles.cos(), angles.sin(), 0 * angles], dim=1).numpy()
    poses = look_at(eyes, eyes[0] * 0, (eyes[0] * 0) + [0, 0, 1])
    intrinsics = torch.from_numpy(intrinsics_from_fov(49.0, size, size)).expand(count, 3, 3).clone().numpy()
    cameras = Cameras(torch.from_numpy(poses).float(), torch.from_numpy(intrinsics).float(), size, size)
    vertices, faces = icosphere(4)
    image = render(0.6 * vertices, faces, cameras, albedo=torch.ones_like(vertices), samples=1).radiance
    return Views((image / image.max()).numpy(), poses, intrinsics, radiance_scale=image.max().item())
