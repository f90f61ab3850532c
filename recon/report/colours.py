"""The colours that all figures of a report share."""

import matplotlib
import numpy as np

RUNS = ("#4c78a8", "#e45756", "#54a24b", "#f58518", "#72b7b2", "#b279a2", "#9d755d", "#eeca3b", "#ff9da6", "#7f7f7f")
SCALES = ("magma", "magma_r", "viridis")


def run_color(index: int) -> str:
    """The colour of a run in every figure; repeats after ten."""
    return RUNS[index % len(RUNS)]


def scale_table(name: str) -> list[str]:
    """64 colours of a perceptually uniform map, from its low end to its high end."""
    return [matplotlib.colors.to_hex(color) for color in matplotlib.colormaps[name](np.linspace(0, 1, 64))]
