"""The pictures of README.md and docs/method.md, from a run.

    python -m benchmarks.figures [RUN]        (results/bunny/default, as `make demo` leaves it)

Writes docs/images/{reconstruction,flow,training,visibility}.png; the run must be validated with a reference.
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from trimesh import transform_points

from benchmarks.clay import clay, graticule
from recon.camera import Cameras
from recon.evaluation.sheet import GREY
from recon.evaluation.turntable import cameras_around
from recon.files import read_npz
from recon.model.file import load_model
from recon.model.model import Model
from recon.model.snapshot import SNAPSHOT_LEVEL
from recon.render.renderer import render
from recon.render.shade import Angles
from recon.report.paper import INKED, STYLE
from recon.report.records import RunRecord, load_records, set_names
from recon.report.sprite_sheet import read_picture
from recon.report.stages import LARGEST_DISTANCE
from recon.surface.icosphere import icosphere

FOLDER = Path("docs/images")
RUN = Path("results/bunny/default")
LEVEL = 6
SIZE = 360
ANGLE = 3.56
"""Of the camera around the upright axis: the scenes' object from the front and its left."""
WIDTH = 9.0


def main() -> None:
    run = Path(sys.argv[1]) if len(sys.argv) > 1 else RUN
    record, model = load_records([run])[0], load_model(run)
    FOLDER.mkdir(parents=True, exist_ok=True)
    figures = {"reconstruction": reconstruction, "flow": flow, "training": training, "visibility": visibility}
    with matplotlib.rc_context({**STYLE, **dict.fromkeys(INKED, GREY)}):
        for name, draw in figures.items():
            draw(record, model).savefig(FOLDER / f"{name}.png", dpi=110, transparent=True)


def reconstruction(record: RunRecord, model: Model) -> Figure:
    """Photographs, what was made of them, the truth, and the distance between the two."""
    assert record.surface is not None
    camera = cameras_around(model, np.array([ANGLE]), SIZE)
    mesh, truth = _unit_mesh(record, model, ""), _unit_mesh(record, model, "reference/")
    diagonal = float(np.linalg.norm(np.ptp(record.surface["reference/vertices"], axis=0)))
    share = torch.from_numpy(record.surface["distance"] / diagonal)[:, None]
    table = torch.from_numpy(matplotlib.colormaps["magma_r"](np.linspace(0, 1, 256))[:, :3]).float() ** 2.2

    def heat(values: Float[Tensor, "p 1"]) -> Float[Tensor, "p 3"]:
        return table[(values[:, 0] / LARGEST_DISTANCE * 255).round().long().clamp(0, 255)]

    figure = Figure(figsize=(WIDTH, 2.65), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1, 3.1])
    name = set_names(record.galleries)[0]
    files = record.galleries[name]["truth"]
    chosen = np.linspace(0, len(files) - 1, 6).round().astype(int)
    for axes, i in zip(left.subplots(3, 2).flat, chosen, strict=True):
        _show(axes, read_picture(files[i]))
    left.suptitle(f"{len(files)} flash photographs", fontsize=9)
    panels = {
        "reconstruction": clay(*mesh, camera),
        "true shape": clay(*truth, camera),
        f"distance, up to {LARGEST_DISTANCE:.0%} of the diagonal": clay(*mesh, camera, share, heat),
    }
    for axes, title, picture in zip(right.subplots(1, 3), panels, _trimmed(list(panels.values())), strict=True):
        _show(axes, picture)
        axes.set_title(title, fontsize=9)
    return figure


def flow(record: RunRecord, model: Model) -> Figure:
    """The sphere on its way, with its lines of latitude and longitude on it."""
    sphere, faces = icosphere(LEVEL)
    with torch.no_grad():
        path = model.flow().trajectory(sphere)
    camera = cameras_around(model, np.array([ANGLE]), SIZE)
    pictures = _trimmed([clay(points, faces, camera, sphere, graticule) for points in path])
    figure = Figure(figsize=(WIDTH, 1.65), layout="constrained")
    for step, axes in enumerate(figure.subplots(1, len(path))):
        _show(axes, pictures[step])
        axes.set_title(f"t = {2 * step / (len(path) - 1):g}", fontsize=8)
    return figure


def training(record: RunRecord, model: Model) -> Figure:
    """The surface at checkpoints, over the errors of the viewpoint sets."""
    camera = cameras_around(model, np.array([ANGLE]), SIZE)
    chosen = _spread(sorted(record.snapshots), 6)
    figure = Figure(figsize=(WIDTH, 3.7), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.2])
    shapes = [_to_unit(model, read_npz(record.snapshots[iteration])["vertices"]) for iteration in chosen]
    faces = icosphere(SNAPSHOT_LEVEL).faces
    pictures = _trimmed([clay(vertices, faces, camera) for vertices in shapes])
    for axes, iteration, picture in zip(top.subplots(1, len(chosen)), chosen, pictures, strict=True):
        _show(axes, picture)
        axes.set_title(f"iteration {iteration:,}", fontsize=8)
    axes = bottom.subplots()
    axes.plot(record.history["iteration"], record.history["image"], color=GREY, linewidth=0.5, label="image loss")
    assert record.checkpoints is not None
    for name, rows in record.checkpoints.groupby("set"):
        if name != "train":
            axes.plot(rows["iteration"], rows["mean_absolute_error"], marker=".", label=name)
    axes.set(yscale="log", xlabel="iteration", ylabel="mean absolute error")
    bottom.legend(loc="outside right center")
    return figure


def visibility(record: RunRecord, model: Model) -> Figure:
    """A grey ball is moved sideways: what hard and blended outlines make of the image loss."""
    shifts = np.linspace(-0.12, 0.12, 97)
    figure = Figure(figsize=(WIDTH, 2.2), layout="constrained")
    pictures, plot = figure.subfigures(1, 2, width_ratios=[1, 1.5])
    panels = pictures.subplots(1, 2)
    axes = plot.subplots()
    for panel, antialias, name in zip(panels, (False, True), ("hard outlines", "blended outlines"), strict=True):
        target = _ball(0.0, antialias)
        losses = [float((_ball(shift, antialias) - target).abs().mean()) for shift in shifts]
        _show(panel, np.rint(255 * target.numpy()).astype(np.uint8).repeat(3, axis=2))
        panel.set_title(name, fontsize=8)
        axes.plot(shifts, losses, label=name)
    axes.set(xlabel="the ball's shift, in radii of the unit sphere", ylabel="image loss")
    plot.legend(loc="outside right center")
    return figure


def _ball(shift: float, antialias: bool) -> Float[Tensor, "h w 1"]:
    """An evenly bright ball, 16 pixels a side."""
    vertices, faces = icosphere(4)
    pose = torch.eye(4)[None]
    pose[0, 2, 3] = -3.0
    cameras = Cameras(pose, torch.tensor([[[30.0, 0, 8], [0, 30, 8], [0, 0, 1]]]), 16, 16)
    moved = 0.45 * vertices + torch.tensor([float(shift), 0.0, 0.0])

    def flat(attributes: Tensor, irradiance: Tensor, cosine: Tensor, angles: Angles | None = None) -> Tensor:
        return attributes

    grey = torch.full_like(moved, 0.8)
    return render(moved, faces, cameras, albedo=grey, shader=flat, antialias=antialias).radiance[0, ..., :1]


def _unit_mesh(record: RunRecord, model: Model, prefix: str) -> tuple[Tensor, Tensor]:
    assert record.surface is not None
    faces = torch.from_numpy(record.surface[f"{prefix}faces"].astype(np.int64))
    return _to_unit(model, record.surface[f"{prefix}vertices"]), faces


def _to_unit(model: Model, vertices: Float[np.ndarray, "v 3"]) -> Float[Tensor, "v 3"]:
    return torch.from_numpy(transform_points(vertices, np.linalg.inv(model.world_from_unit))).float()


def _spread(values: list[int], count: int) -> list[int]:
    return [values[i] for i in np.unique(np.linspace(0, len(values) - 1, count).round().astype(int))]


def _trimmed(pictures: list[UInt8[np.ndarray, "h w 4"]]) -> list[UInt8[np.ndarray, "h2 w 4"]]:
    """Without the rows above and below in which none of them shows anything."""
    seen = np.stack(pictures)[..., 3].any(axis=(0, 2)).nonzero()[0]
    return [picture[max(seen[0] - 3, 0) : seen[-1] + 4] for picture in pictures]


def _show(axes: Axes, picture: UInt8[np.ndarray, "h w c"]) -> None:
    axes.imshow(picture, interpolation="nearest" if picture.shape[0] < SIZE // 2 else "antialiased")
    axes.set_axis_off()


if __name__ == "__main__":
    main()
