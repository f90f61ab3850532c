"""Plots of all runs for papers, drawn by matplotlib."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recon.report.colours import run_color
from recon.report.figures import curve_names, iteration_times, set_curve, training_curve
from recon.report.records import RunRecord, published, set_names

WIDTH = 5.5
"""Inches: the text of a one-column paper."""
LINES = ("-", "--", ":", "-.", (0, (6, 2)), (0, (6, 2, 1, 2)))

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
    figure = Figure(figsize=(WIDTH, 2.1 * ((len(names) + 2) // 3) + 0.3), layout="constrained")
    panels = figure.subplots((len(names) + 2) // 3, min(3, len(names)), sharey=True, squeeze=False)
    for panel, name in zip(panels.flat, names, strict=False):
        for i, record in enumerate(records):
            curve = training_curve(record, "iteration") if name == names[0] else set_curve(record, name, "iteration")
            panel.plot(*curve, color=run_color(i), label=record.name)
        panel.set(title=name, yscale="log", xlabel="iteration")
    for panel in panels.flat[len(names) :]:
        panel.set_axis_off()
    for row in panels:
        row[0].set_ylabel("mean absolute error")
    _legend(figure, panels.flat[0])
    return figure


def _times(records: Sequence[RunRecord]) -> Figure:
    figure = Figure(figsize=(WIDTH, 2.5), layout="constrained")
    axes = figure.subplots()
    for i, record in enumerate(records):
        axes.plot(*iteration_times(record), color=run_color(i), label=record.name)
    axes.set(xlabel="iteration", ylabel="milliseconds an iteration")
    axes.set_ylim(bottom=0)
    _legend(figure, axes)
    return figure


def _errors(records: Sequence[RunRecord]) -> Figure:
    sets = set_names(name for record in records for name in record.sets)
    figure = Figure(figsize=(WIDTH, 2.5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(records)
    for i, record in enumerate(records):
        known = [k for k, name in enumerate(sets) if name in record.sets]
        errors = [record.sets[sets[k]]["mean"].get("mean_absolute_error") or np.nan for k in known]
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
        figure.legend(
            handles, [_plain(label) for label in labels], loc="outside lower center", ncols=min(4, len(labels))
        )


def _plain(text: str) -> str:
    """matplotlib reads formulas between dollars."""
    return text.replace("$", r"\$")
