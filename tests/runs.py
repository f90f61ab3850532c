"""Run folders as training and validation leave them, made up for the report's tests."""

import json
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import trimesh
import yaml

CERTIFICATE = {
    "watertight": True,
    "edge_manifold": True,
    "vertex_manifold": True,
    "genus": 0,
    "smallest_jacobian_determinant": 0.031,
    "self_intersections": 0,
}
GEOMETRY = {"chamfer": 0.0031, "chamfer_relative": 0.0012, "f_score_0_5": 0.97, "f_score_1": 0.99, "normal_error": 6.2}


def write_run(folder: Path, error: float = 0.004, learning_rate: float = 0.001) -> Path:
    """A complete run whose error is `error` on the set front and twice that on full."""
    write_training(folder, error, learning_rate)
    validation = folder / "validation"
    validation.mkdir()
    for factor, name in ((1, "front"), (2, "full")):
        mean = {"mean_absolute_error": factor * error, "psnr": 40 - 1000 * error, "ssim": 0.98, "mask_iou": 0.99}
        (validation / f"{name}.json").write_text(json.dumps({"set": name, "views": 6, "mean": mean}))
        imageio.imwrite(validation / f"{name}.png", np.full((30, 80, 4), 90, np.uint8))
    (validation / "certificate.json").write_text(json.dumps(CERTIFICATE))
    (validation / "geometry.json").write_text(json.dumps(GEOMETRY))
    return folder


def write_training(folder: Path, error: float = 0.004, learning_rate: float = 0.001) -> Path:
    """A run that was not validated."""
    folder.mkdir(parents=True)
    rows = [f"{i},{0.1 * i:.3f},{error + 0.1 / i:.6g},{error + 0.09 / i:.6g}" for i in range(1, 1201)]
    (folder / "history.csv").write_text("\n".join(["iteration,seconds,loss,image", *rows]) + "\n")
    rows = [f"{i},{0.1 * i},{name},{error + 0.1 / i}" for i in (400, 800, 1200) for name in ("full", "front")]
    (folder / "validation.csv").write_text("\n".join(["iteration,seconds,set,mean_absolute_error", *rows]) + "\n")
    (folder / "train.yaml").write_text(yaml.safe_dump({"train": {"learning_rate": learning_rate, "seed": 0}}))
    trimesh.creation.icosphere(subdivisions=2).export(folder / "mesh.glb")
    return folder
