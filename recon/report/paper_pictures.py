"""The figures of the reference work's report, from the files of our runs, drawn by matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle

from recon.files import read_npz
from recon.images.pictures import srgb, tone_map
from recon.report.paper_plots import WIDTH, Drawing
from recon.report.records import RunRecord, published, set_names
from recon.report.sprite_sheet import read_picture
from recon.report.tables import number, plain
from recon.training.crop import draw_crops

COLUMNS = 6
EXPOSED = 1.15
"""The largest radiance of the overshoot figure where no prediction exceeds 1."""
DARK = 8
"""Of 255: below it a pixel shows nothing."""

Picture = UInt8[np.ndarray, "h w 3"]


def overshoot_figure(records: Sequence[RunRecord]) -> Drawing | None:
    """Figure 1: the brightest prediction as integers that wrap, clamped, and scaled."""
    found = [(record, read_npz(record.overshoot)) for record in records if record.overshoot is not None]
    if not found:
        return None
    # A run that went wrong overshoots most, and shows nothing.
    above_one = [each for each in found if each[1]["radiance"].max() > 1]
    record, brightest = min(above_one or found, key=lambda each: _first_error(each[0]))
    radiance = brightest["radiance"]
    largest = float(radiance.max())
    # Where nothing overshoots, the same picture exposed for longer shows what would happen.
    gain = 1.0 if largest > 1 else EXPOSED / max(largest, 1 / EXPOSED)
    above = int((gain * radiance > 1).any(axis=-1).sum())
    exposed = "" if gain == 1 else f"no pixel exceeds 1, so it is shown {gain:.2f} times as bright: then "
    caption = (
        f"The brightest prediction: {record.name}, view {int(brightest['view'])} of {brightest['set']}. Its largest "
        f"radiance is {largest:.3f}; {exposed}{above} of {radiance[..., 0].size} pixels exceed 1. Written as 16-bit "
        "integers without care these wrap and come out black; clamped they are white; scaled, all is a little darker."
    )
    return caption, lambda: _overshoot(gain * radiance)


def wrapped(radiance: Float[np.ndarray, "h w 3"]) -> Picture:
    """What 16-bit integers make of radiance above 1 when nobody takes care, as 8 bits: the fault to avoid."""
    levels = np.rint(srgb(radiance.astype(np.float64).clip(min=0)) * 65535).astype(np.int64) % 65536
    return (levels >> 8).astype(np.uint8)


def crop_figure(records: Sequence[RunRecord]) -> Drawing | None:
    """Figure 2: photographs whole, and the windows of them that an iteration compares."""
    shown = [record for record in records if record.galleries]
    if not shown:
        return None
    sizes = [record.config.get("train.crop.size") for record in shown]
    record = next((each for each, size in zip(shown, sizes, strict=True) if size), shown[0])
    name, photographs = _photographs(record, 8)
    size = record.config.get("train.crop.size") or min(photographs[0].shape[:2]) // 2
    caption = (
        f"Photographs of {name} of {photographs[0].shape[1]} x {photographs[0].shape[0]} pixels, and windows of "
        f"{size} x {size} drawn as the training draws them: only those that show something."
    )
    return caption, lambda: _crops(photographs, int(size))


def variants_figure(records: Sequence[RunRecord], key: str, label: str) -> Drawing | None:
    """Figures 3 and 4: what runs predict that differ in `key` alone, one a row."""
    group = variants(records, key)
    if len(group) < 2:
        return None
    rows = [(f"{label}\n{_value(record.config.get(key))}", record) for record in group]
    name = set_names(rows[0][1].galleries)[0]
    errors = ", ".join(f"{number(record.error(name), 4)} with {' '.join(text.split())}" for text, record in rows)
    return f"Views of {name}; mean absolute error {errors}.", lambda: _comparison(rows, name)


def variants(records: Sequence[RunRecord], key: str) -> list[RunRecord]:
    """The largest group of validated runs that agree in everything but `key`, by its value."""
    groups: dict[Any, dict[str, RunRecord]] = {}
    for record in records:
        if record.galleries and key in record.config:
            rest = tuple(sorted((other, plain(value)) for other, value in record.config.items() if other != key))
            name = set_names(record.galleries)[0]
            same = rest, name, record.galleries[name]["truth"][0].read_bytes()
            groups.setdefault(same, {}).setdefault(plain(record.config[key]), record)
    largest = max(groups.values(), key=len, default={})
    return sorted(largest.values(), key=lambda record: record.config[key] or np.inf)


def background_figure(records: Sequence[RunRecord]) -> Drawing | None:
    """Figure 5: photographs with something behind the object, and what came of them."""
    shown = [record for record in records if record.galleries and _has_background(record)]
    if not shown:
        return None
    best = min(shown, key=lambda record: (not _models_background(record), _first_error(record)))
    name = set_names(best.galleries)[0]
    kinds = [kind for kind in ("truth", "prediction", "object", "background") if kind in _gallery(best, name)]
    caption = (
        f"Photographs of {name} with a background, and {best.name} (background: "
        f"{plain(best.config.get('background'))}), mean absolute error {number(best.error(name), 4)}."
    )
    return caption, lambda: _layers(best, name, kinds)


def sets_figure(records: Sequence[RunRecord]) -> Drawing | None:
    """Figure 6: ground truth on the left and prediction on the right, a row for each viewpoint set."""
    shown = [record for record in records if record.galleries]
    if not shown:
        return None
    most = max(len(record.galleries) for record in shown)
    full = [record for record in shown if len(record.galleries) == most]
    record = min(full, key=_first_error)
    sets = set_names(record.galleries)
    errors = "; ".join(f"{name} {number(record.error(name), 5)}{_beside(record, name)}" for name in sets)
    return f"Ground truth (left) and prediction (right) of {record.name}. {errors}.", lambda: _sets(record, sets)


def _beside(record: RunRecord, name: str) -> str:
    """What was published of a viewpoint set, for a caption."""
    loss = published([record], name)
    return "" if loss is None else f" (published {loss:.5f})"


def _overshoot(radiance: Float[np.ndarray, "h w 3"]) -> Figure:
    panels = {
        "as written wrongly": wrapped(radiance),
        "clamped": tone_map(radiance, "clamp"),
        "scaled": tone_map(radiance, "scale"),
    }
    height, width = radiance.shape[:2]
    row, column = np.unravel_index(radiance.max(axis=-1).argmax(), (height, width))
    # The enlarged part has the picture's proportions.
    tall, wide = (max(2, length // 4) for length in (height, width))
    top, left = (
        int(np.clip(at - part // 2, 0, whole - part))
        for at, part, whole in ((row, tall, height), (column, wide, width))
    )
    dense = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    figure = Figure(figsize=(WIDTH, WIDTH * 2 / 3 * height / width + 0.25), layout=dense)
    axes = figure.subplots(2, 3)
    for k, (name, picture) in enumerate(panels.items()):
        _show(axes[0, k], picture, name)
        axes[0, k].add_patch(Rectangle((left, top), wide, tall, fill=False, color="#e45756", linewidth=1))
        _show(axes[1, k], picture[top : top + tall, left : left + wide])
    return figure


def _crops(photographs: Sequence[Picture], size: int) -> Figure:
    occupied = torch.from_numpy(np.stack(photographs).max(axis=-1) > DARK)
    offsets = draw_crops(occupied, size, torch.Generator().manual_seed(0)).offsets.tolist()
    half = len(photographs) // 2
    aspect = photographs[0].shape[0] / photographs[0].shape[1]
    figure = Figure(figsize=(WIDTH, WIDTH * aspect * 2 / max(2 * half, 1) + 0.2), layout="constrained")
    left, right = figure.subfigures(1, 2, wspace=0.03, squeeze=False)[0]
    wholes, windows = (_grid(each, 2, half) for each in (left, right))
    for axes, picture, (row, column) in zip(wholes, photographs, offsets, strict=False):
        _show(axes, picture)
        axes.add_patch(Rectangle((column, row), size, size, fill=False, color="#e45756", linewidth=1))
    for axes, picture, (row, column) in zip(windows, photographs, offsets, strict=False):
        _show(axes, picture[row : row + size, column : column + size])
    left.suptitle("whole")
    right.suptitle(f"{size} x {size}")
    return figure


def _comparison(rows: Sequence[tuple[str, RunRecord]], name: str) -> Figure:
    truth = _views(rows[0][1], name, "truth", COLUMNS)
    return _rows(
        [("ground truth", truth), *((text, _views(record, name, "prediction", COLUMNS)) for text, record in rows)]
    )


def _layers(record: RunRecord, name: str, kinds: Sequence[str]) -> Figure:
    labels = {"truth": "photographs", "object": "object alone", "background": "background alone"}
    return _rows([(labels.get(kind, kind), _views(record, name, kind, COLUMNS)) for kind in kinds])


def _sets(record: RunRecord, sets: Sequence[str]) -> Figure:
    rows = [
        (name, [*_views(record, name, "truth", COLUMNS // 2), *_views(record, name, "prediction", COLUMNS // 2)])
        for name in sets
    ]
    return _rows(rows, gap=True)


def _rows(rows: Sequence[tuple[str, Sequence[Picture]]], gap: bool = False) -> Figure:
    """A labelled row of pictures each; with a gap in the middle where two halves are compared."""
    columns = max(len(pictures) for _, pictures in rows)
    aspect = max(pictures[0].shape[0] / pictures[0].shape[1] for _, pictures in rows)
    cell = (WIDTH - 0.3) / columns
    dense = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    figure = Figure(figsize=(WIDTH, cell * aspect * len(rows) + 0.1), layout=dense)
    ratios = [1.0] * columns
    if gap:
        ratios.insert(columns // 2, 0.12)
    grid = figure.subplots(len(rows), len(ratios), squeeze=False, gridspec_kw={"width_ratios": ratios})
    for (label, pictures), axes in zip(rows, grid, strict=True):
        cells = [each for k, each in enumerate(axes) if not (gap and k == columns // 2)]
        for each in axes:
            each.set_axis_off()
        for each, picture in zip(cells, pictures, strict=False):
            _show(each, picture)
        axes[0].set_axis_on()
        axes[0].set_ylabel(_plain(label), fontsize=7)
    return figure


def _grid(figure: Any, rows: int, columns: int) -> list[Axes]:
    axes = list(figure.subplots(rows, max(columns, 1), squeeze=False).flat)
    for each in axes:
        each.set_axis_off()
    return axes


def _show(axes: Axes, picture: Picture, title: str = "") -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.set(xticks=[], yticks=[], title=title)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _gallery(record: RunRecord, name: str) -> dict[str, list[Path]]:
    return record.galleries[name]


def _views(record: RunRecord, name: str, kind: str, count: int) -> list[Picture]:
    """Evenly spread views of a set."""
    files = _gallery(record, name)[kind]
    chosen = np.unique(np.linspace(0, len(files) - 1, count).round().astype(int))
    return [read_picture(files[i]) for i in chosen]


def _photographs(record: RunRecord, count: int) -> tuple[str, list[Picture]]:
    name = set_names(record.galleries)[0]
    return name, _views(record, name, "truth", count)


def _has_background(record: RunRecord) -> bool:
    """Whether photographs show something at their borders."""
    _, photographs = _photographs(record, COLUMNS)
    borders = np.concatenate([_border(picture) for picture in photographs])
    return bool((borders.max(axis=-1) > DARK).mean() > 0.01)


def _models_background(record: RunRecord) -> bool:
    return "background" in _gallery(record, set_names(record.galleries)[0])


def _border(picture: Picture) -> UInt8[np.ndarray, "p 3"]:
    return np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])


def _first_error(record: RunRecord) -> float:
    """What runs are ranked by: the error on the first of their viewpoint sets."""
    errors = [record.error(name) for name in set_names(record.sets)[:1]]
    return next((error for error in errors if error is not None), np.inf)


def _plain(text: str) -> str:
    """matplotlib reads formulas between dollars."""
    return text.replace("$", r"\$")


def _value(value: Any) -> str:
    return "none" if value is None else plain(value)
