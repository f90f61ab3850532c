"""Plots of all runs for papers, drawn by matplotlib."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recon.report.colours import RUNS, run_color
from recon.report.figures import curve_names, iteration_times, set_curve, training_curve
from recon.report.records import RunRecord, published, set_names

WIDTH = 5.5
"""Inches: the text of a one-column paper."""
LINES = ("-", "--", ":", "-.", (0, (6, 2)), (0, (6, 2, 1, 2)))
"""Of the first runs, of those that have the same colours once more, and so on."""

MOST_BARS = 8
"""Runs whose bars can be told apart side by side; more are rows of dots."""

LETTER, HANDLE, LINE = 0.052, 0.55, 0.155
"""Inches that a legend needs for a letter, for what is before a name, and from line to line."""

Drawing = tuple[str, Callable[[], Figure]]


def curves_plot(records: Sequence[RunRecord]) -> Drawing:
    """Losses in the course of training; a panel for the training and one for each viewpoint set."""
    return "Mean absolute error in the course of training.", lambda: _curves(records)


def times_plot(records: Sequence[RunRecord]) -> Drawing:
    return "Milliseconds that an iteration took; steps are changes of the mesh's resolution.", lambda: _times(records)


def errors_plot(records: Sequence[RunRecord]) -> Drawing | None:
    """A group of bars for each viewpoint set; None where nothing was measured."""
    if not any(record.sets for record in records):
        return None
    return "Mean absolute error on viewpoint sets; lines are the losses of the reference.", lambda: _errors(records)


def _curves(records: Sequence[RunRecord]) -> Figure:
    names = curve_names(records)
    height = 2.1 * ((len(names) + 2) // 3) + 0.3
    figure = Figure(figsize=(WIDTH, height + _legend_height(records)), layout="constrained")
    panels = figure.subplots((len(names) + 2) // 3, min(3, len(names)), sharey=True, squeeze=False)
    for panel, name in zip(panels.flat, names, strict=False):
        for i, record in enumerate(records):
            curve = training_curve(record, "iteration") if name == names[0] else set_curve(record, name, "iteration")
            panel.plot(*curve, color=run_color(i), linestyle=_line(i), label=record.name)
        panel.set(title=name, yscale="log", xlabel="iteration")
    for panel in panels.flat[len(names) :]:
        panel.set_axis_off()
    for row in panels:
        row[0].set_ylabel("mean absolute error")
    _legend(figure, panels.flat[0])
    return figure


def _times(records: Sequence[RunRecord]) -> Figure:
    figure = Figure(figsize=(WIDTH, 2.5 + _legend_height(records)), layout="constrained")
    axes = figure.subplots()
    for i, record in enumerate(records):
        axes.plot(*iteration_times(record), color=run_color(i), linestyle=_line(i), label=record.name)
    axes.set(xlabel="iteration", ylabel="milliseconds an iteration")
    axes.set_ylim(bottom=0)
    _legend(figure, axes)
    return figure


def _errors(records: Sequence[RunRecord]) -> Figure:
    sets = set_names(name for record in records for name in record.sets)
    return _bars(records, sets) if len(records) <= MOST_BARS else _dots(records, sets)


def _dots(records: Sequence[RunRecord], sets: Sequence[str]) -> Figure:
    """A row for each run, with a dot for each set."""
    figure = Figure(figsize=(WIDTH, 0.19 * len(records) + 0.9), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(records))
    for k, name in enumerate(sets):
        errors = [record.error(name) or np.nan for record in records]
        axes.scatter(errors, rows, s=14, color=run_color(k), label=name, zorder=3)
        if (loss := published(records, name)) is not None:
            axes.axvline(loss, color=run_color(k), linewidth=0.8, linestyle="--")
    axes.set(yticks=rows, xscale="log", xlabel="mean absolute error", ylim=(len(records) - 0.5, -0.5))
    axes.set_yticklabels([_plain(record.name) for record in records], fontsize="small")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, [_plain(label) for label in labels], loc="outside lower center", ncols=min(6, len(sets)))
    return figure


def _bars(records: Sequence[RunRecord], sets: Sequence[str]) -> Figure:
    figure = Figure(figsize=(WIDTH, 2.5 + _legend_height(records)), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(records)
    for i, record in enumerate(records):
        known = [k for k, name in enumerate(sets) if name in record.sets]
        errors = [record.error(sets[k]) or np.nan for k in known]
        places = [k - 0.4 + width * (i + 0.5) for k in known]
        axes.bar(places, errors, 0.9 * width, color=run_color(i), label=record.name)
    lines = []
    for k, name in enumerate(sets):
        if (loss := published(records, name)) is not None:
            lines.append(axes.hlines(loss, k - 0.42, k + 0.42, colors=axes.xaxis.label.get_color(), linewidth=1))
    for line in lines[:1]:
        line.set_label("published")
    axes.set(xticks=range(len(sets)), xticklabels=sets, ylabel="mean absolute error")
    axes.grid(visible=False, axis="x")
    _legend(figure, axes)
    return figure


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        columns = _columns(labels)
        figure.legend(handles, [_plain(label) for label in labels], loc="outside lower center", ncols=columns)


def _columns(labels: Sequence[str]) -> int:
    """Of a legend as wide as the figure."""
    fitting = int(WIDTH / (LETTER * max(map(len, labels)) + HANDLE))
    return max(1, min(4, fitting, len(labels)))


def _legend_height(records: Sequence[RunRecord]) -> float:
    """Inches below the axes for a legend of more than two lines."""
    names = [record.name for record in records]
    return LINE * max(-(-len(names) // _columns(names)) - 2, 0)


def _line(run: int) -> Any:
    return LINES[run // len(RUNS) % len(LINES)]


def _plain(text: str) -> str:
    """matplotlib reads formulas between dollars."""
    return text.replace("$", r"\$")
