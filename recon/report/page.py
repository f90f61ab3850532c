"""The report: one page, made from the files of training runs, that needs no network."""

import base64
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import imageio.v3 as imageio
import numpy as np
from jaxtyping import UInt8
from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from recon.errors import ReconError
from recon.files import atomic
from recon.report.figures import loss_curves, mesh_figure, run_color
from recon.report.records import PUBLISHED, RunRecord, load_records, set_names
from recon.scenes.meshes import load_mesh


class Metric(NamedTuple):
    key: str
    label: str
    digits: int
    better: Callable[[Iterable[float]], float]
    caption: str


IMAGE_METRICS = (
    Metric("mean_absolute_error", "mean absolute error", 5, min, "Of linear images in [0, 1]; lower is better."),
    Metric("psnr", "PSNR", 2, max, "In dB, for a peak of 1; higher is better."),
    Metric("ssim", "SSIM", 4, max, "Structural similarity; higher is better."),
    Metric("mask_iou", "mask IoU", 4, max, "Intersection over union of the object's pixels; higher is better."),
)
GEOMETRY_METRICS = (
    Metric("chamfer", "chamfer", 5, min, ""),
    Metric("f_score_0_5", "F-score at 0.5%", 4, max, ""),
    Metric("f_score_1", "F-score at 1%", 4, max, ""),
    Metric("normal_error", "normal error in degrees", 2, min, ""),
)


def report(runs: Sequence[Path], out: Path) -> None:
    """Write `out`/index.html about the training runs in the folders `runs`.

    Reads of each run what is there: history.csv, validation.csv, train.yaml, mesh.glb or mesh.ply, and in its
    folder `validation` what `recon validate` wrote.

    Raises:
        ReconError: a run or one of its files cannot be read, or `out` cannot be written.
    """
    page = report_page(runs)
    with atomic(out / "index.html") as temporary:
        temporary.write_text(page, encoding="utf-8")


def report_page(runs: Sequence[Path]) -> str:
    """The HTML text of the report."""
    records = load_records(runs)
    sets = set_names(name for record in records for name in record.sets)
    return render_template(
        "report.html.j2",
        title=f"Reconstruction of {records[0].name}" if len(records) == 1 else f"{len(records)} reconstructions",
        runs=[_run_context(record, run_color(i)) for i, record in enumerate(records)],
        sets=sets,
        metrics=[_image_table(metric, records, sets) for metric in IMAGE_METRICS if _known(metric, records)],
        curves={axis: loss_curves(records, axis).to_json() for axis in ("iteration", "seconds")},
        pictures=any(record.pictures for record in records),
        geometry=_geometry_table(records),
        configuration=_configuration(records),
    )


def render_template(name: str, **context: Any) -> str:
    """A page from recon/report/templates, escaped, with plotly in it."""
    return _environment().get_template(name).render(plotly_js=get_plotlyjs(), **context)


def picture_uri(picture: UInt8[np.ndarray, "h w c"]) -> str:
    """The picture as a data URI, WebP: a fifth of the PNG's size, with no loss that can be seen."""
    encoded = imageio.imwrite("<bytes>", picture, extension=".webp", quality=90)
    return f"data:image/webp;base64,{base64.b64encode(encoded).decode()}"


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("recon.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _run_context(record: RunRecord, color: str) -> dict[str, Any]:
    return {
        "name": record.name,
        "color": color,
        "iterations": record.iterations,
        "duration": _duration(record.seconds),
        "per_iteration": f"{1000 * record.seconds / max(record.iterations, 1):.0f} ms",
        "mesh": _mesh_json(record),
        "tiles": _tiles(record),
        "certificate": _certificate(record),
        "pictures": [_picture(record, name) for name in set_names(record.sets) if name in record.pictures],
    }


def _mesh_json(record: RunRecord) -> str | None:
    if record.mesh is None:
        return None
    mesh = load_mesh(record.mesh)
    return mesh_figure(np.asarray(mesh.vertices), np.asarray(mesh.faces)).to_json()


def _tiles(record: RunRecord) -> list[dict[str, str]]:
    tiles = []
    for name in set_names(record.sets):
        note = f"published {PUBLISHED[name]:.5f}" if name in PUBLISHED else ""
        error = record.sets[name]["mean"].get("mean_absolute_error")
        tiles.append({"label": f"error, {name}", "value": _number(error, 5), "note": note})
    if record.geometry is not None:
        relative = record.geometry.get("chamfer_relative")
        note = "" if relative is None else f"{relative:.2%} of the diagonal"
        tiles.append({"label": "chamfer", "value": _number(record.geometry.get("chamfer"), 5), "note": note})
        tiles.append({"label": "F-score at 0.5%", "value": _number(record.geometry.get("f_score_0_5"), 3), "note": ""})
    return tiles


def _certificate(record: RunRecord) -> list[dict[str, Any]]:
    found = record.certificate
    if found is None:
        return []
    manifold = bool(found.get("edge_manifold") and found.get("vertex_manifold"))
    pairs, genus = found.get("self_intersections"), found.get("genus")
    facts = [
        {"good": found.get("watertight") is True, "text": "watertight"},
        {"good": manifold, "text": "manifold"},
        {"good": genus == 0, "text": "genus unknown" if genus is None else f"genus {genus}"},
        {"good": pairs == 0, "text": f"{_number(pairs, 0)} self-intersections"},
    ]
    determinant = found.get("smallest_jacobian_determinant")
    if determinant is not None:
        facts.append({"good": determinant > 0, "text": f"smallest Jacobian determinant {determinant:.2g}"})
    return facts


def _picture(record: RunRecord, name: str) -> dict[str, Any]:
    path = record.pictures[name]
    try:
        picture = imageio.imread(path, plugin="pillow")
    except (OSError, ValueError) as error:
        raise ReconError(f"{path}: not a readable picture: {' '.join(str(error).split())}") from error
    return {
        "set": name,
        "views": record.sets[name].get("views", ""),
        "uri": picture_uri(picture),
        "width": picture.shape[1],
        "height": picture.shape[0],
    }


def _known(metric: Metric, records: Sequence[RunRecord]) -> bool:
    means = [summary["mean"] for record in records for summary in record.sets.values()]
    return any(mean.get(metric.key) is not None for mean in means)


def _image_table(metric: Metric, records: Sequence[RunRecord], sets: Sequence[str]) -> dict[str, Any]:
    values = [[record.sets.get(name, {"mean": {}})["mean"].get(metric.key) for name in sets] for record in records]
    published = [_number(PUBLISHED.get(name), metric.digits) for name in sets]
    return {
        "label": metric.label,
        "caption": metric.caption,
        "rows": _rows(records, values, [metric] * len(sets)),
        "published": published if metric.key == "mean_absolute_error" else None,
    }


def _geometry_table(records: Sequence[RunRecord]) -> dict[str, Any] | None:
    if all(record.geometry is None for record in records):
        return None
    values = [[(record.geometry or {}).get(metric.key) for metric in GEOMETRY_METRICS] for record in records]
    return {
        "columns": [metric.label for metric in GEOMETRY_METRICS],
        "rows": _rows(records, values, GEOMETRY_METRICS),
    }


def _rows(
    records: Sequence[RunRecord], values: Sequence[Sequence[float | None]], metrics: Sequence[Metric]
) -> list[dict[str, Any]]:
    """Table rows of numbers, one metric a column; the best of a column is marked where there are several."""
    best: list[float | None] = []
    for metric, column in zip(metrics, zip(*values, strict=True), strict=True):
        known = [value for value in column if value is not None]
        best.append(metric.better(known) if len(known) > 1 else None)
    return [
        {
            "name": record.name,
            "color": run_color(i),
            "cells": [
                {"text": _number(value, metric.digits), "best": value is not None and value == top}
                for value, metric, top in zip(values[i], metrics, best, strict=True)
            ],
        }
        for i, record in enumerate(records)
    ]


def _configuration(records: Sequence[RunRecord]) -> dict[str, Any]:
    """The keys in which the runs differ; of one run, all."""
    keys = dict.fromkeys(key for record in records for key in record.config)
    rows = [{"key": key, "values": [_plain(record.config.get(key)) for record in records]} for key in keys]
    return {"rows": [row for row in rows if len(records) == 1 or len(set(row["values"])) > 1]}


def _plain(value: Any) -> str:
    return "–" if value is None else str(value)


def _number(value: float | int | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
