"""Numbers of runs as text: tables and tiles."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from recon.report.colours import run_color
from recon.report.records import RunRecord, published, set_names


class Metric(NamedTuple):
    key: str
    label: str
    digits: int
    better: Callable[[Iterable[float]], float]
    caption: str = ""


IMAGE_METRICS = (
    Metric("mean_absolute_error", "mean absolute error", 5, min, "Of linear images in [0, 1]; lower is better."),
    Metric("psnr", "PSNR", 2, max, "In dB, for a peak of 1; higher is better."),
    Metric("ssim", "SSIM", 4, max, "Structural similarity; higher is better."),
    Metric("mask_iou", "mask IoU", 4, max, "Intersection over union of the object's pixels; higher is better."),
)
GEOMETRY_METRICS = (
    Metric("chamfer", "chamfer", 5, min),
    Metric("f_score_0_5", "F-score at 0.5%", 4, max),
    Metric("f_score_1", "F-score at 1%", 4, max),
    Metric("normal_error", "normal error in degrees", 2, min),
)


def tiles(record: RunRecord) -> list[dict[str, str]]:
    """The row of numbers that a page opens with."""
    found = []
    for name in set_names(record.sets):
        loss = published([record], name)
        note = "" if loss is None else f"{loss:.5f}: the published loss"
        error = record.error(name)
        found.append({"label": f"error, {name}", "value": number(error, 5), "note": note})
    if record.geometry is not None:
        relative = record.geometry.get("chamfer_relative")
        note = "" if relative is None else f"{relative:.2%} of the diagonal"
        found.append({"label": "chamfer", "value": number(record.geometry.get("chamfer"), 5), "note": note})
        f_score = number(record.geometry.get("f_score_0_5"), 3)
        found.append({"label": "F-score", "value": f_score, "note": "at 0.5% of the diagonal"})
    each = f"{1000 * record.seconds / max(record.iterations, 1):.0f} ms each"
    found.append({"label": "training", "value": duration(record.seconds), "note": f"{record.iterations:,} × {each}"})
    metres = record.config.get("export.metres")
    known = isinstance(metres, int | float)
    found.append({"label": "scale", "value": f"{metres:.4g} m" if known else "unknown", "note": "a unit of the source"})
    return found


def image_tables(records: Sequence[RunRecord], sets: Sequence[str]) -> list[dict[str, Any]]:
    """A table for each metric that any run has."""
    return [_image_table(metric, records, sets) for metric in IMAGE_METRICS if _known(metric, records)]


def geometry_table(records: Sequence[RunRecord]) -> dict[str, Any] | None:
    if all(record.geometry is None for record in records):
        return None
    values = [[(record.geometry or {}).get(metric.key) for metric in GEOMETRY_METRICS] for record in records]
    return {
        "columns": [metric.label for metric in GEOMETRY_METRICS],
        "rows": _rows(records, values, GEOMETRY_METRICS),
    }


def configuration(records: Sequence[RunRecord]) -> dict[str, Any]:
    """The keys in which the runs differ; of one run, all."""
    keys = differing_keys(records) if len(records) > 1 else list(records[0].config)
    return {"rows": [{"key": key, "values": [plain(record.config.get(key)) for record in records]} for key in keys]}


def differing_keys(records: Sequence[RunRecord]) -> list[str]:
    """The configuration keys that have several values, in the order of the configuration.

    A run that was trained before a key was invented has none, which is no difference.
    """
    keys = dict.fromkeys(key for record in records for key in record.config)
    values = {key: {plain(record.config[key]) for record in records if key in record.config} for key in keys}
    return [key for key in keys if len(values[key]) > 1]


def number(value: float | int | None, digits: int) -> str:
    """`value` with `digits` after the point; with three in all where these would show next to nothing."""
    if value is None:
        return "–"
    return f"{value:.3g}" if 0 < abs(value) < 10.0 ** (1 - digits) and digits > 2 else f"{value:.{digits}f}"


def plain(value: Any) -> str:
    """A value of the configuration as a person writes it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(plain, value)) if isinstance(value, list) else str(value)


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _known(metric: Metric, records: Sequence[RunRecord]) -> bool:
    means = [summary["mean"] for record in records for summary in record.sets.values()]
    return any(mean.get(metric.key) is not None for mean in means)


def _image_table(metric: Metric, records: Sequence[RunRecord], sets: Sequence[str]) -> dict[str, Any]:
    values = [[record.sets.get(name, {"mean": {}})["mean"].get(metric.key) for name in sets] for record in records]
    is_published = metric.key == "mean_absolute_error"
    losses = [published(records, name) if is_published else None for name in sets]
    return {
        "label": metric.label,
        "caption": metric.caption,
        "rows": _rows(records, values, [metric] * len(sets), losses),
        "published": [
            {"text": number(value, metric.digits), "share": _share(value, top)}
            for value, top in zip(losses, _tops(values, losses), strict=True)
        ]
        if any(value is not None for value in losses)
        else None,
    }


def _rows(
    records: Sequence[RunRecord],
    values: Sequence[Sequence[float | None]],
    metrics: Sequence[Metric],
    losses: Sequence[float | None] = (),
) -> list[dict[str, Any]]:
    """Table rows of numbers, one metric a column; the best of a column is marked where there are several.

    Where lower is better, `share` is the number's part of the column's largest, published ones among
    them, for a bar under it.
    """
    best: list[float | None] = []
    for metric, column in zip(metrics, zip(*values, strict=True), strict=True):
        known = [value for value in column if value is not None]
        best.append(metric.better(known) if len(known) > 1 else None)
    tops = [top if metric.better is min else None for metric, top in zip(metrics, _tops(values, losses), strict=True)]
    return [
        {
            "name": record.name,
            "color": run_color(i),
            "cells": [
                {
                    "text": number(value, metric.digits),
                    "value": value,
                    "best": value is not None and value == first,
                    "share": _share(value, top),
                }
                for value, metric, first, top in zip(values[i], metrics, best, tops, strict=True)
            ],
        }
        for i, record in enumerate(records)
    ]


def _tops(values: Sequence[Sequence[float | None]], losses: Sequence[float | None]) -> list[float]:
    """The largest of each column, of the published `losses` too."""
    rows = [*values, losses] if losses else values
    return [max((value for value in column if value is not None), default=0.0) for column in zip(*rows, strict=True)]


def _share(value: float | None, top: float | None) -> float | None:
    return None if value is None or not top else round(value / top, 3)
