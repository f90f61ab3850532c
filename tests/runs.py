"""Run folders as training and validation leave them, made up for the report's tests."""

import json
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import trimesh
import yaml

from recon.camera import intrinsics_from_fov, look_at
from recon.surface.icosphere import icosphere

CERTIFICATE = {
    "watertight": True,
    "edge_manifold": True,
    "vertex_manifold": True,
    "genus": 0,
    "smallest_jacobian_determinant": 0.031,
    "self_intersections": 0,
}
GEOMETRY = {"chamfer": 0.0031, "chamfer_relative": 0.0012, "f_score_0_5": 0.97, "f_score_1": 0.99, "normal_error": 6.2}
KINDS = ("truth", "prediction", "difference", "normals", "depth")
VIEWS = 6


def write_run(folder: Path, error: float = 0.004, learning_rate: float = 0.001, lit_border: bool = False) -> Path:
    """A complete run whose error is `error` on the set front and twice that on full."""
    write_training(folder, error, learning_rate)
    validation = folder / "validation"
    validation.mkdir()
    for factor, name in ((1, "front"), (2, "full")):
        write_set(validation, name, factor * error, 40 - 1000 * error, lit_border)
    (validation / "certificate.json").write_text(json.dumps(CERTIFICATE))
    (validation / "geometry.json").write_text(json.dumps(GEOMETRY))
    write_surface(validation / "surface.npz")
    radiance = np.full((20, 24, 3), 0.5, np.float32)
    radiance[8:10, 8:10] = 1.2
    np.savez_compressed(validation / "overshoot.npz", set="front", view=2, radiance=radiance)
    return folder


def write_set(validation: Path, name: str, error: float, psnr: float, lit_border: bool = False) -> None:
    """NAME.json and the pictures of every view: grey squares, brighter in later views, on black."""
    mean = {"mean_absolute_error": error, "psnr": psnr, "ssim": 0.98, "mask_iou": 0.99}
    summary = {
        "set": name,
        "views": VIEWS,
        "mean": mean,
        "per_view": [mean] * VIEWS,
        "ranges": {"difference": [0, 0.05], "depth": [1.5, 2.5]},
    }
    (validation / f"{name}.json").write_text(json.dumps(summary))
    (validation / name).mkdir()
    for view in range(VIEWS):
        for k, kind in enumerate(KINDS):
            picture = np.full((20, 24, 3), 60 if lit_border else 0, np.uint8)
            picture[5:15, 6:18] = 80 + 20 * view + 5 * k
            imageio.imwrite(validation / name / f"{view:03d}_{kind}.png", picture)


def publish(run: Path, losses: dict[str, float]) -> None:
    """Have validation say what was published of these viewpoint sets."""
    for name, loss in losses.items():
        path = run / "validation" / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"published": loss}))


def write_surface(path: Path) -> None:
    """A sphere that shrinks, its distances and coverage growing with height, before a larger reference."""
    sphere, faces = (part.numpy() for part in icosphere(2))
    poses = look_at(np.array([[2.0, 0, 1], [0, 2, 1]]), np.zeros(3), np.array([0, 0, 1.0]))
    cameras = {}
    for name in ("front", "full"):
        cameras |= {
            f"seen/{name}": np.where(sphere[:, 2] > 0, 2, 1).astype(np.uint16),
            f"poses/{name}": poses,
            f"intrinsics/{name}": np.tile(intrinsics_from_fov(50.0, 20, 24), (2, 1, 1)),
            f"size/{name}": np.array([20, 24]),
        }
    np.savez_compressed(
        path,
        vertices=0.5 * sphere,
        faces=faces.astype(np.int32),
        albedo=np.full((len(sphere), 3), 255, np.uint8),
        flow=np.stack([sphere, 0.75 * sphere, 0.5 * sphere]),
        distance=(0.01 * (1 + sphere[:, 2])).astype(np.float32),
        **{"reference/vertices": 0.6 * sphere, "reference/faces": faces.astype(np.int32)},
        **cameras,
    )


def write_training(folder: Path, error: float = 0.004, learning_rate: float = 0.001) -> Path:
    """A run that was not validated."""
    (folder / "checkpoints").mkdir(parents=True)
    rows = [f"{i},{0.1 * i:.3f},{error + 0.1 / i:.6g},{error + 0.09 / i:.6g}" for i in range(1, 1201)]
    (folder / "history.csv").write_text("\n".join(["iteration,seconds,loss,image", *rows]) + "\n")
    rows = [f"{i},{0.1 * i},{name},{error + 0.1 / i}" for i in (400, 800, 1200) for name in ("full", "front")]
    (folder / "validation.csv").write_text("\n".join(["iteration,seconds,set,mean_absolute_error", *rows]) + "\n")
    for iteration in (400, 800, 1200):
        vertices = icosphere(2).vertices.numpy() * (1 - iteration / 2400)
        np.savez_compressed(folder / "checkpoints" / f"{iteration:07d}.npz", iteration=iteration, vertices=vertices)
    (folder / "train.yaml").write_text(yaml.safe_dump({"train": {"learning_rate": learning_rate, "seed": 0}}))
    trimesh.creation.icosphere(subdivisions=2).export(folder / "mesh.glb")
    return folder
