"""One picture of how a viewpoint set was matched."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from recon.images.colour_maps import DIFFERENCE, difference_range
from recon.images.pictures import Tone, absolute_difference, tone_map

COLUMNS = 8
CELL = 1.5
"""Inches of a picture's longer side."""
DPI = 128
GREY = "#767676"
"""Reads alike on white and on black (contrast 4.5 and 4.6), for the background is transparent."""


def comparison_sheet(
    target: Float[np.ndarray, "n h w 3"],
    prediction: Float[np.ndarray, "n h w 3"],
    labels: Sequence[str],
    tone: Tone = "clamp",
) -> UInt8[np.ndarray, "h2 w2 4"]:
    """Ground truth, prediction and absolute error of the views, one a column, as one picture.

    Photographs and predictions share one tone mapping. The error is the mean over the channels of
    linear radiance clamped to [0, 1], in a perceptually uniform colour map.
    """
    count, height, width = target.shape[:3]
    pictures = _tone_mapped([target, prediction], tone)
    error = absolute_difference(target, prediction)
    low, high = difference_range(error)

    cell_height, cell_width = CELL * height / max(height, width), CELL * width / max(height, width)
    figure = Figure(figsize=(count * cell_width + 1.3, 3 * cell_height + 0.45), dpi=DPI, facecolor="none")
    canvas = FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    axes = figure.subplots(3, count, squeeze=False)
    for view in range(count):
        axes[0, view].imshow(pictures[0][view])
        axes[1, view].imshow(pictures[1][view])
        heat = axes[2, view].imshow(error[view], cmap=DIFFERENCE, vmin=low, vmax=high)
        axes[0, view].set_title(labels[view], color=GREY, fontsize=9.5, pad=3)
    for row, name in zip(axes, ("ground truth", "prediction", "absolute error"), strict=True):
        row[0].set_ylabel(name, color=GREY, fontsize=10)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    bar = figure.colorbar(heat, ax=list(axes[2]), fraction=0.12, aspect=12, pad=0.01, extend="max")
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=GREY, labelsize=9)
    canvas.draw()
    return np.array(canvas.buffer_rgba())


def _tone_mapped(rows: Sequence[Float[np.ndarray, "n h w 3"]], tone: Tone) -> list[list[UInt8[np.ndarray, "h w 3"]]]:
    """Pictures with one tone mapping, made one by one: all at once take two kilobytes a pixel."""
    peak = max(1.0, *(float(row.max()) for row in rows)) if tone == "scale" else 1.0
    return [[tone_map(radiance.astype(np.float64) / peak) for radiance in row] for row in rows]
