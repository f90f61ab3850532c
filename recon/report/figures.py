"""Interactive figures. Colours of text and grid are the page's, which knows whether it is dark."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from recon.report.colours import run_color
from recon.report.records import RunRecord, set_names
from recon.report.tables import differing_keys, plain

POINTS_OF_A_CURVE = 300
TICKS = [step * 10.0**power for power in range(-5, 2) for step in (1, 2, 5)]
DASHES = ("dash", "dot", "dashdot", "longdash", "longdashdot")
TRAINING = "training"

Axis = Literal["iteration", "seconds"]


def curve_names(records: Sequence[RunRecord]) -> list[str]:
    """What `loss_curves` draws of a run: the training, and every viewpoint set that any run was measured on."""
    known = [record.checkpoints for record in records if record.checkpoints is not None]
    return [TRAINING, *set_names(name for table in known for name in table["set"])]


def dash(curve: int) -> str:
    """The line of a curve: solid for the training, broken in its own way for every viewpoint set."""
    return "solid" if curve == 0 else DASHES[(curve - 1) % len(DASHES)]


def loss_curves(records: Sequence[RunRecord], against: Axis) -> go.Figure:
    """The image term of the loss and the errors on viewpoint sets in the course of training, log scale.

    A curve of the training shows means over equal parts of it, since crops and views vary. Traces say
    in `meta` which run (its index) and which curve they are.
    """
    figure = go.Figure()
    for i, record in enumerate(records):
        for k, curve in enumerate(curve_names(records)):
            x, y = training_curve(record, against) if k == 0 else set_curve(record, curve, against)
            figure.add_scatter(
                x=x,
                y=y,
                name=curve,
                mode="lines" if k == 0 else "lines+markers",
                marker={"size": 5, "symbol": k},
                line={"color": run_color(i), "width": 2 if k == 0 else 1.3, "dash": dash(k)},
                meta={"run": i, "curve": curve},
                hovertemplate=f"{_text(record.name)}, {_text(curve)}: %{{y:.5f}}<extra></extra>",
            )
    figure.update_layout(**_layout(against, "mean absolute error"))
    figure.update_yaxes(type="log", tickvals=TICKS, ticktext=[f"{tick:g}" for tick in TICKS])
    return figure


def time_curves(records: Sequence[RunRecord]) -> go.Figure:
    """Milliseconds that an iteration took, means over equal parts of the training."""
    figure = go.Figure()
    for i, record in enumerate(records):
        x, y = iteration_times(record)
        figure.add_scatter(
            x=x,
            y=y,
            name=record.name,
            mode="lines",
            line={"color": run_color(i), "width": 2},
            meta={"run": i},
            hovertemplate=f"{_text(record.name)}: %{{y:.0f}} ms<extra></extra>",
        )
    figure.update_layout(**_layout("iteration", "milliseconds an iteration"))
    figure.update_yaxes(rangemode="tozero")
    return figure


def training_curve(record: RunRecord, against: Axis) -> tuple[list[float], list[float]]:
    """The image term on the training views, or the whole loss where it has no such term."""
    term = "image" if "image" in record.history else "loss"
    curve = _thin(record.history[[against, term]])
    return _rounded(curve[against]), _rounded(curve[term])


def set_curve(record: RunRecord, name: str, against: Axis) -> tuple[list[float], list[float]]:
    """The mean absolute error on a viewpoint set at the checkpoints; empty where none was measured."""
    if record.checkpoints is None:
        return [], []
    rows = record.checkpoints[record.checkpoints["set"] == name]
    return _rounded(rows[against]), _rounded(rows["mean_absolute_error"])


def iteration_times(record: RunRecord) -> tuple[list[float], list[float]]:
    """Iterations and the milliseconds that each took, as means over equal parts."""
    steps = record.history[["iteration", "seconds"]].astype(float)
    took = 1000 * steps["seconds"].diff() / steps["iteration"].diff()
    curve = _thin(pd.DataFrame({"iteration": steps["iteration"], "took": took}).dropna())
    return _rounded(curve["iteration"]), _rounded(curve["took"])


def parallel_coordinates(records: Sequence[RunRecord]) -> go.Figure | None:
    """The runs as lines through what differs between them and what came out; None for a single run.

    Drawn as lines of a plot: plotly's own parallel coordinates need WebGL, and draw hairlines.
    """
    if len(records) < 2:
        return None
    axes = _sweep(records)
    figure = go.Figure()
    for i, record in enumerate(records):
        figure.add_scatter(
            x=list(range(len(axes))),
            y=[axis.places[i] for axis in axes],
            connectgaps=True,
            text=[f"{_text(axis.label)}: {_text(axis.texts[i])}" for axis in axes],
            name=record.name,
            mode="lines+markers",
            marker={"size": 8},
            line={"color": run_color(i), "width": 2.5, "shape": "spline", "smoothing": 0.5},
            meta={"run": i},
            hovertemplate=f"{_text(record.name)}<br>%{{text}}<extra></extra>",
        )
    for k, axis in enumerate(axes):
        for place, text in axis.ticks:
            figure.add_annotation(
                x=k, y=place, text=_text(text), xanchor="left", xshift=7, yshift=11, showarrow=False, font={"size": 12}
            )
    figure.update_layout(**_layout("", ""))
    names = [_text(axis.label) for axis in axes]
    figure.update_xaxes(tickvals=list(range(len(axes))), ticktext=names, side="top", range=[-0.1, len(axes) - 0.4])
    figure.update_xaxes(gridwidth=2, rangemode="normal", tickangle=-14, automargin=True)
    figure.update_yaxes(visible=False, range=[-0.06, 1.14])
    figure.update_layout(margin={"l": 20, "r": 12, "t": 12, "b": 12})
    return figure


class _SweepAxis(NamedTuple):
    """Where each run is on one axis, from 0 to 1 (None: unknown), what it says there, and the axis's marks."""

    label: str
    places: list[float | None]
    texts: list[str]
    ticks: list[tuple[float, str]]


def _sweep(records: Sequence[RunRecord]) -> list[_SweepAxis]:
    """What differs, then errors, chamfer and time."""
    keys = {"run": [record.name for record in records]}
    keys |= {key: [plain(record.config.get(key)) for record in records] for key in differing_keys(records)}
    columns: dict[str, list[float | None]] = {}
    for name in set_names(name for record in records for name in record.sets):
        columns[f"error, {name}"] = [record.error(name) for record in records]
    if any(record.geometry for record in records):
        columns["chamfer"] = [(record.geometry or {}).get("chamfer") for record in records]
    columns["minutes"] = [record.seconds / 60 for record in records]
    categories = [_SweepAxis(label, *_categories(texts)) for label, texts in keys.items()]
    return [*categories, *(_SweepAxis(label, *_scale(values)) for label, values in columns.items())]


Marks = tuple[list[float | None], list[str], list[tuple[float, str]]]


def _scale(values: Sequence[float | None]) -> Marks:
    """Measured numbers between their least and their largest."""
    known = [value for value in values if value is not None] or [0.0]
    texts = ["–" if value is None else f"{value:.4g}" for value in values]
    low, high = min(known), max(known)
    if low == high:
        return [None if value is None else 0.5 for value in values], texts, [(0.5, f"{low:.4g}")]
    places = [None if value is None else float(np.interp(value, [low, high], [0, 1])) for value in values]
    return places, texts, [(0.0, f"{low:.4g}"), (1.0, f"{high:.4g}")]


def _categories(texts: Sequence[str]) -> Marks:
    """Names side by side, numbers among them in their order."""
    names = sorted(dict.fromkeys(texts), key=lambda text: (_as_number(text), text))
    places = {name: (i + 0.5) / len(names) for i, name in enumerate(names)}
    return [places[text] for text in texts], list(texts), [(place, name) for name, place in places.items()]


def _as_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("-inf")


def _layout(x: str, y: str) -> dict[str, Any]:
    return {
        "template": "none",
        "margin": {"l": 64, "r": 12, "t": 12, "b": 52},
        "hovermode": "closest",
        "showlegend": False,
        "xaxis": {"title": {"text": x}, "rangemode": "tozero", "zeroline": False},
        "yaxis": {"title": {"text": y}, "zeroline": False},
    }


def _text(name: str) -> str:
    """plotly reads tags, and %{…} in templates, in what it shows."""
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("%{", "%&#123;")


def _rounded(values: pd.Series) -> list[float]:
    """Plain numbers of six digits: what is seen, in a third of the text."""
    return [float(f"{value:.6g}") for value in values]


def _thin(curve: pd.DataFrame) -> pd.DataFrame:
    """Means over at most `POINTS_OF_A_CURVE` parts of equal length."""
    part = np.arange(len(curve)) * POINTS_OF_A_CURVE // max(len(curve), POINTS_OF_A_CURVE)
    return curve.groupby(part).mean()
