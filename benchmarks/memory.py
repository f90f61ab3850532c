"""The largest resident size of `recon validate`, by the number of views."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from recon.camera import Cameras, intrinsics_from_fov, look_at
from recon.config import load_config
from recon.model.export import write_meshes
from recon.model.file import save_model
from recon.render.renderer import render
from recon.surface.icosphere import icosphere
from recon.training.initialise import initial_model
from recon.views import Views, save_views

MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def validation_memory(counts: tuple[int, ...] = (12, 24, 48), size: int = 512, level: int = 6) -> str:
    """Of views of `size` x `size` pixels of a ball with masks, and of a model that was not trained."""
    lines = [f"memory: recon validate, views of {size} x {size}, level {level}"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for count in counts:
            views = _ball(count, size)
            save_views(views, folder / "views.npz")
            run = folder / f"run{count}"
            run.mkdir()
            model = initial_model(load_config(None, [f"train.levels=[{level}]"]), views, torch.device("cpu"))
            save_model(model, run / "model.pt")
            write_meshes(model, run)
            lines.append(f"  {count} views: {_peak(run, folder / 'views.npz') / 1024:.0f} MiB")
    return "\n".join(lines)


def _peak(run: Path, views: Path) -> int:
    """Kibibytes that a process of its own had in memory at most."""
    options = ["--run", run, "--views", f"front={views}", "--out", run / "out"]
    command = [sys.executable, "-c", MEASURE, sys.executable, "-m", "recon", "validate", *options]
    measured = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(measured.stdout)


def _ball(count: int, size: int) -> Views:
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    eyes = 2.5 * np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    poses = look_at(eyes, np.zeros(3), np.array([0, 0, 1.0]))
    intrinsics = np.tile(intrinsics_from_fov(49.0, size, size), (count, 1, 1))
    cameras = Cameras(torch.from_numpy(poses).float(), torch.from_numpy(intrinsics).float(), size, size)
    vertices, faces = icosphere(4)
    seen = [
        render(0.6 * vertices, faces, cameras[[i]], albedo=torch.ones_like(vertices), samples=1) for i in range(count)
    ]
    radiance = np.concatenate([each.radiance.numpy() for each in seen])
    masks = np.concatenate([(each.alpha >= 0.5).numpy() for each in seen])
    peak = float(radiance.max())
    return Views(radiance / np.float32(peak), poses, intrinsics, masks.astype(np.uint8) * 255, radiance_scale=peak)
