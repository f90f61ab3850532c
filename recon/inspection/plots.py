"""Exposure and fall-off of a viewpoint set."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from recon.inspection.falloff import Falloff
from recon.inspection.style import ALARM, BACKGROUND, GREY, OBJECT, RULE, plain
from recon.inspection.table import fall_name
from recon.views import Views

STOPS = 12
"""Of the histogram, below the brightest pixel."""


def draw_exposure(axes: Axes, views: Views) -> None:
    """How bright the pixels of the object and of the background are, in stops below the brightest of all."""
    peak = max(float(views.images.max()), 1e-12)
    edges = np.linspace(-STOPS, 0, 4 * STOPS + 1)
    counts, total = np.zeros((2, len(edges) - 1)), 0
    for i, image in enumerate(views.images):
        level = image.max(axis=2) / peak
        inside = np.ones(level.shape, bool) if views.masks is None else views.masks[i] > 0
        total += int(inside.sum())
        for row, part in enumerate((level[inside], level[~inside])):
            counts[row] += np.histogram(np.log2(part[part > 0]).clip(-STOPS, 0), edges)[0]
    share = 100 * counts / max(total, 1)
    step = edges[1] - edges[0]
    if views.masks is not None and share[1].any():
        axes.bar(edges[:-1], share[1], step, align="edge", color=BACKGROUND, label="background")
    axes.bar(edges[:-1], share[0], step, align="edge", color=OBJECT, label="object" if views.masks is not None else "")
    axes.set(xlim=(-STOPS, 0.4), ylim=(0, 1.25 * max(share[0].max(), 0.1)))
    axes.set(xlabel="stops below the brightest pixel", ylabel="% of the object's pixels")
    axes.axvline(0, color=ALARM, lw=1.2)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_xticks(range(-STOPS, 1, 3), [str(stop) for stop in range(STOPS, -1, -3)])
    plain(axes, "exposure")
    if views.masks is not None:
        axes.legend(frameon=False, fontsize=8.5, loc="upper left", labelcolor=GREY, handlelength=1, borderpad=0)


def draw_falloff(axes: Axes, fall: Falloff) -> None:
    """Brightness of each view over the distance to its light, beside what the light of a flash does."""
    used = (fall.brightness > 0) & (fall.distance > 0)
    distance, brightness = fall.distance[used], fall.brightness[used]
    plain(axes, "fall-off of the light")
    axes.set(xlabel="distance from light to object", ylabel="brightness of the view")
    told = fall.exponent is not None
    note = f"brightness ∝ $r^{{-{fall.exponent:.2f}}}$ ± {fall.error:.2f}" if told else fall_name(fall)
    axes.annotate(
        note,
        (1, 1),
        (0, -3),
        "axes fraction",
        "offset points",
        color=GREY,
        fontsize=8.5,
        ha="right",
        va="top",
    )
    if not len(distance):
        return
    color = ALARM if fall.verdict == "other" else OBJECT
    axes.scatter(distance, brightness, s=18, color=color, alpha=0.75, linewidths=0, zorder=3)
    x = np.geomspace(distance.min() / 1.06, distance.max() * 1.06, 40)
    level = np.exp(np.log(brightness).mean() + 2 * np.log(distance).mean()) / x**2
    axes.plot(x, level, color=GREY, lw=1, ls="--", zorder=2)
    axes.annotate("1/r²", (x[0], level[0]), (3, 3), textcoords="offset points", color=GREY, fontsize=9)
    axes.set(xscale="log", yscale="log", xlim=(x[0], x[-1]))
    axes.set_ylim(min(brightness.min(), level[-1]) / 1.3, max(brightness.max(), level[0]) * 1.7)
    axes.grid(color=RULE, lw=0.5, which="both")
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        few = high / low < 4
        subs = list(np.arange(1, 10, 0.2 if high / low < 1.5 else 0.5)) if few else [1.0, 2.0, 5.0]
        axis.set_major_locator(LogLocator(subs=subs, numticks=12))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
