"""Figures as files for papers: one style, PNG of 300 dots an inch, and SVG where it is a plot."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from recon.evaluation.sheet import GREY
from recon.files import atomic, writable_folder
from recon.report.paper_pictures import (
    background_figure,
    crop_figure,
    overshoot_figure,
    sets_figure,
    variants_figure,
)
from recon.report.paper_plots import curves_plot, errors_plot, times_plot
from recon.report.records import RunRecord

DPI = 300
PREVIEW_DPI = 150
STYLE: dict[Any, Any] = {
    "figure.dpi": DPI,
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.titlesize": 8,
    "figure.titlesize": 8,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.4,
    "grid.alpha": 0.35,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "svg.fonttype": "none",
    # The same data give the same file.
    "svg.hashsalt": "recon",
}
INKED: tuple[Any, ...] = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")


@dataclass(frozen=True)
class PaperFigure:
    """A figure of a paper, drawn when it is asked for; of pixels, or a `plot` of lines.

    `draw` is None where the runs do not have what it shows; `needs` then says what is missing.
    """

    name: str
    title: str
    needs: str
    found: tuple[str, Callable[[], Figure]] | None
    plot: bool = False

    @property
    def caption(self) -> str:
        return "" if self.found is None else self.found[0]

    def drawn(self, ink: str = "black") -> Figure:
        """The figure, its text in the colour `ink`."""
        assert self.found is not None
        with matplotlib.rc_context({**STYLE, **dict.fromkeys(INKED, ink)}):
            return self.found[1]()

    def preview(self) -> UInt8[np.ndarray, "h w 4"]:
        """For a screen: no paper behind it, and text that reads on white and on black."""
        figure = self.drawn(GREY)
        figure.set(dpi=PREVIEW_DPI, facecolor="none")
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.array(canvas.buffer_rgba())


def paper_figures(records: Sequence[RunRecord]) -> list[PaperFigure]:
    """The figures of the reference work's report, then plots of all runs."""
    learning_rate, crop_size = "train.learning_rate", "train.crop.size"
    return [
        PaperFigure(
            "figure1_overshoot",
            "Figure 1. Overshoot at the brightest points",
            "a validated run",
            overshoot_figure(records),
        ),
        PaperFigure("figure2_crops", "Figure 2. Full images and crops", "a validated run", crop_figure(records)),
        PaperFigure(
            "figure3_learning_rates",
            "Figure 3. Learning rates",
            f"validated runs that differ in {learning_rate} alone",
            variants_figure(records, learning_rate, "learning rate"),
        ),
        PaperFigure(
            "figure4_crop_sizes",
            "Figure 4. Sizes of the crop",
            f"validated runs that differ in {crop_size} alone",
            variants_figure(records, crop_size, "crop"),
        ),
        PaperFigure(
            "figure5_background",
            "Figure 5. A scene with a background",
            "a validated run on photographs that show something behind the object",
            background_figure(records),
        ),
        PaperFigure("figure6_viewpoint_sets", "Figure 6. Viewpoint sets", "a validated run", sets_figure(records)),
        PaperFigure("losses", "Losses", "", curves_plot(records), plot=True),
        PaperFigure("time_per_iteration", "Time of an iteration", "", times_plot(records), plot=True),
        PaperFigure("errors", "Errors on viewpoint sets", "a validated run", errors_plot(records), plot=True),
    ]


def write_figures(figures: Sequence[PaperFigure], folder: Path) -> None:
    """`NAME.png` of each figure in `folder`, and `NAME.svg` of each plot.

    Raises:
        ReconError: the folder cannot be written.
    """
    writable_folder(folder)
    for figure in figures:
        if figure.found is None:
            continue
        drawn = figure.drawn()
        for suffix in ("png", "svg") if figure.plot else ("png",):
            with atomic(folder / f"{figure.name}.{suffix}") as temporary, matplotlib.rc_context(STYLE):
                metadata = {"Date": None} if suffix == "svg" else {}
                drawn.savefig(temporary, format=suffix, dpi=DPI, metadata=metadata)
