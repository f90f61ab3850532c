"""Thumbnails of the views, with the outlines of their masks and of the unit sphere."""

import numpy as np
from jaxtyping import Bool, UInt8
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle

from recon.images.pictures import tone_map
from recon.inspection.holes import enclosed, views_with_holes
from recon.inspection.sphere import outline
from recon.inspection.style import ALARM, GREY, INK, OUTLINE, SPHERE
from recon.views import Views

TILES = 48
"""Views that are shown, those with warnings first."""

GAP = 0.05
"""Between tiles, relative to their longer side."""

BEYOND = 222
"""Level of what no photograph shows."""

Extent = tuple[float, float, float, float]
"""Left, right, bottom, top."""


def draw_contact_sheet(axes: Axes, views: Views, flagged: list[int]) -> None:
    """As many views as fit, numbered; those with warnings are framed."""
    chosen, holes = shown_views(len(views), flagged), set(views_with_holes(views))
    box = axes.get_window_extent()
    longer = max(views.height, views.width)
    wide, high = views.width / longer, views.height / longer
    columns = best_columns(len(chosen), box.width / box.height, (wide + GAP) / (high + GAP))
    stride = max(1, int(longer * columns / box.width))
    for k, view in enumerate(chosen):
        left, top = (k % columns) * (wide + GAP), (k // columns) * (high + GAP)
        extent = (left, left + wide, top + high, top)
        axes.imshow(_tile(views, view, stride), extent=extent, zorder=1)
        if views.masks is not None:
            _outline(axes, views.masks[view, ::stride, ::stride] > 0, extent)
        if views.masks is not None and view in holes:
            _holes(axes, enclosed(views.masks[view] > 0)[::stride, ::stride], extent)
        _sphere(axes, views, view, extent)
        color = ALARM if view in flagged else INK
        if view in flagged:
            axes.add_patch(Rectangle((left, top), wide, high, fill=False, color=ALARM, lw=2, zorder=4))
        badge = {"boxstyle": "square,pad=0.25", "facecolor": color, "edgecolor": "none", "alpha": 0.8}
        place = left + 0.045, top + 0.045
        axes.text(*place, str(view), color="white", fontsize=7.5, va="top", zorder=5, bbox=badge)
    rows = -(-len(chosen) // columns)
    axes.set(xlim=(0, columns * (wide + GAP) - GAP), ylim=(rows * (high + GAP) - GAP, 0), aspect="equal", anchor="NW")
    if len(chosen) < len(views):
        note = f"{len(chosen)} of {len(views)} views"
        axes.annotate(
            note, (1, 0), (0, -4), "axes fraction", "offset points", color=GREY, fontsize=9, ha="right", va="top"
        )
    axes.set_axis_off()


def _tile(views: Views, view: int, stride: int) -> UInt8[np.ndarray, "r c 3"]:
    """Every `stride`-th pixel as a screen shows it, and plain grey where the photograph ends."""
    shown = tone_map(views.images[view, ::stride, ::stride])
    if views.known is not None:
        shown[views.known[view, ::stride, ::stride] == 0] = BEYOND
    return shown


def shown_views(count: int, flagged: list[int]) -> list[int]:
    """At most `TILES` views: those with warnings, up to half of them, and of the others evenly spread ones."""
    if count <= TILES:
        return list(range(count))
    first = flagged[: TILES // 2]
    others = np.setdiff1d(np.arange(count), first)
    spread = others[np.linspace(0, len(others) - 1, TILES - len(first)).round().astype(int)]
    return sorted({*first, *spread.tolist()})


def best_columns(count: int, page: float, tile: float) -> int:
    """Columns with which `count` tiles fill a page best; both shapes are width over height."""
    return max(range(1, count + 1), key=lambda columns: min(page / (columns * tile), 1 / -(-count // columns)))


def _outline(axes: Axes, mask: Bool[np.ndarray, "h w"], extent: Extent) -> None:
    """Closed along the picture's border where the mask touches it."""
    if not mask.any():
        return
    left, right, bottom, top = extent
    x = left + (np.arange(mask.shape[1] + 2) - 0.5) * (right - left) / mask.shape[1]
    y = top + (np.arange(mask.shape[0] + 2) - 0.5) * (bottom - top) / mask.shape[0]
    axes.contour(x, y, np.pad(mask.astype(float), 1), levels=[0.5], colors=[OUTLINE], linewidths=0.9, zorder=3)


def _holes(axes: Axes, shown: Bool[np.ndarray, "h w"], extent: Extent) -> None:
    """What a mask encloses, filled."""
    color = np.zeros((*shown.shape, 4))
    color[shown] = to_rgba(ALARM, 0.85)
    axes.imshow(color, extent=extent, zorder=2, interpolation="nearest")


def _sphere(axes: Axes, views: Views, view: int, extent: Extent) -> None:
    """As far as it lies in the picture."""
    found = outline(views.camera_to_world[view], views.intrinsics[view])
    if found is None:
        return
    left, right, bottom, top = extent
    x, y = (found / [views.width, views.height] * [right - left, bottom - top] + [left, top]).T
    frame = Rectangle((left, top), right - left, bottom - top, transform=axes.transData)
    (line,) = axes.plot(x, y, color=SPHERE, lw=0.9, ls=(0, (4, 2)), zorder=3)
    line.set_clip_path(frame)
