"""The unit sphere with its cameras: as a globe, and as a map of latitude and longitude."""

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, Normalize
from matplotlib.ticker import MaxNLocator

from recon.inspection.coverage import COLUMNS, ROWS, Coverage, distinct_cameras
from recon.inspection.findings import mean_direction, mean_elevation
from recon.inspection.style import GREY, INK, RULE, SEEN
from recon.views import Views

PIXELS = 520
"""Of the globe's diameter."""

TURN, RISE = 35.0, 20.0
"""Degrees by which the globe is looked at from beside and above the cameras' middle."""

FRUSTUM = 0.17
"""Depth of a drawn camera, relative to its distance from the origin."""

UNSEEN = "#c9c4ba"
"""Of what no view sees; no colour of the scale."""


def draw_globe(axes: Axes, views: Views, covered: Coverage) -> None:
    """An orthographic picture: the sphere coloured by coverage, cameras before and behind it."""
    basis = _viewer(views)
    axes.imshow(_disc(basis, covered), extent=(-1, 1, -1, 1), zorder=2, interpolation="bilinear")
    axes.add_collection(LineCollection(_graticule(basis), colors="white", linewidths=0.5, alpha=0.25, zorder=3))
    drawn = [np.array([[-1.0, -1.0], [1.0, 1.42]])]
    for pose, matrix, _ in distinct_cameras(views):
        segments = _frustum(pose, matrix, views.height, views.width) @ basis.T
        before = (pose[:3, 3] @ basis.T)[2] > 0
        color, order = (INK, 4) if before else (GREY, 1)
        lines = LineCollection(list(segments[..., :2]), colors=color, linewidths=0.9, alpha=0.7, zorder=order)
        axes.add_collection(lines)
        drawn.append(segments[..., :2].reshape(-1, 2))
    _upright(axes, basis)
    low, high = np.concatenate(drawn).min(axis=0), np.concatenate(drawn).max(axis=0)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", anchor="C")
    axes.set_axis_off()


def draw_map(axes: Axes, scale: Axes, views: Views, covered: Coverage) -> None:
    """Coverage over latitude and longitude, with the cameras, on axes of Mollweide's projection, which keeps
    areas; and its `scale`."""
    longitude = np.linspace(-np.pi, np.pi, COLUMNS + 1)
    latitude = np.linspace(-np.pi / 2, np.pi / 2, ROWS + 1)
    colormap, norm = _scale(covered)
    axes.set_facecolor(UNSEEN)
    mesh = axes.pcolormesh(
        longitude, latitude, np.ma.masked_equal(covered.seen, 0), cmap=colormap, norm=norm, rasterized=True
    )
    centers = views.camera_to_world[:, :3, 3]
    level = np.hypot(centers[:, 0], centers[:, 1])
    places = np.arctan2(centers[:, 1], centers[:, 0]), np.arctan2(centers[:, 2], level)
    axes.scatter(*places, s=12, facecolor="white", edgecolor=INK, linewidths=0.8, zorder=4)
    axes.grid(color="white", alpha=0.25, lw=0.5)
    axes.set_xticks(np.radians(np.arange(-120, 121, 60)), [])
    axes.set_yticks(np.radians(np.arange(-60, 61, 30)), [f"{level}°" for level in range(-60, 61, 30)])
    axes.tick_params(colors=GREY, labelsize=8)
    axes.spines["geo"].set_color(RULE)
    assert axes.figure is not None
    bar = axes.figure.colorbar(mesh, cax=scale, orientation="horizontal", ticks=MaxNLocator(6, integer=True))
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=GREY, labelsize=8.5)
    bar.set_label(f"views that see it; grey: none ({covered.share(0, 0):.0%})", color=GREY, fontsize=9.5)


def _scale(covered: Coverage) -> tuple[Colormap, Normalize]:
    return matplotlib.colormaps[SEEN], Normalize(1, max(2, int(covered.seen.max())))


def _viewer(views: Views) -> Float[np.ndarray, "3 3"]:
    """Rows: to the right, up, and to the viewer, who looks from near where the cameras are."""
    _, azimuth, _ = mean_direction(views)
    level = mean_elevation(views)
    a, e = np.radians(azimuth + TURN), np.radians(np.clip(level / 2 + RISE, -80, 80))
    towards = np.array([np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e)])
    right = np.array([-np.sin(a), np.cos(a), 0.0])
    return np.stack([right, np.cross(towards, right), towards])


def _disc(basis: Float[np.ndarray, "3 3"], covered: Coverage) -> Float[np.ndarray, "p p 4"]:
    """The near half of the sphere, shaded a little so that it looks round."""
    ticks = (np.arange(PIXELS) + 0.5) * 2 / PIXELS - 1
    x, y = np.meshgrid(ticks, -ticks)
    squared = x**2 + y**2
    z = np.sqrt(np.clip(1 - squared, 0, None))
    direction = np.stack([x, y, z], axis=-1) @ basis
    latitude, longitude = np.arcsin(direction[..., 2].clip(-1, 1)), np.arctan2(direction[..., 1], direction[..., 0])
    row = ((latitude / np.pi + 0.5) * ROWS).astype(int).clip(0, ROWS - 1)
    column = ((longitude / np.pi + 1) / 2 * COLUMNS).astype(int).clip(0, COLUMNS - 1)
    seen = covered.seen[row, column]
    colormap, norm = _scale(covered)
    color = np.where((seen > 0)[..., None], colormap(norm(seen)), matplotlib.colors.to_rgba(UNSEEN))
    color[..., :3] *= (0.62 + 0.38 * z)[..., None]
    color[..., 3] = ((1 - np.sqrt(squared)) * PIXELS / 2).clip(0, 1)
    return color


def _graticule(basis: Float[np.ndarray, "3 3"]) -> list[Float[np.ndarray, "k 2"]]:
    """Meridians and parallels every 30 degrees, as far as they lie on the near side."""
    around, along = np.radians(np.arange(0, 361, 3)), np.radians(np.arange(-90, 91, 3))
    circles = [_point(around, np.full(len(around), np.radians(level))) for level in range(-60, 61, 30)]
    circles += [_point(np.full(len(along), np.radians(turn)), along) for turn in range(0, 360, 30)]
    lines = []
    for circle in circles:
        points = circle @ basis.T
        points[points[:, 2] < 0] = np.nan
        lines.append(points[:, :2])
    return lines


def _point(longitude: Float[np.ndarray, " k"], latitude: Float[np.ndarray, " k"]) -> Float[np.ndarray, "k 3"]:
    level = np.cos(latitude)
    return np.stack([level * np.cos(longitude), level * np.sin(longitude), np.sin(latitude)], axis=-1)


def _frustum(
    pose: Float[np.ndarray, "4 4"], matrix: Float[np.ndarray, "3 3"], height: int, width: int
) -> Float[np.ndarray, "8 2 3"]:
    """Edges of a camera's pyramid; each of the first four starts at its apex."""
    corners = np.array([[0, 0, 1.0], [width, 0, 1], [width, height, 1], [0, height, 1]]) @ np.linalg.inv(matrix).T
    depth = FRUSTUM * np.linalg.norm(pose[:3, 3])
    base = depth * corners @ pose[:3, :3].T + pose[:3, 3]
    sides = np.stack([np.broadcast_to(pose[:3, 3], base.shape), base], axis=1)
    return np.concatenate([sides, np.stack([base, np.roll(base, -1, axis=0)], axis=1)])


def _upright(axes: Axes, basis: Float[np.ndarray, "3 3"]) -> None:
    """The z axis, from the pole outwards."""
    low, high, label = (np.array([[0, 0, 1.0], [0, 0, 1.22], [0, 0, 1.33]]) @ basis.T)[:, :2]
    axes.plot(*np.stack([low, high], axis=1), color=GREY, lw=1.2, zorder=4 if basis[2, 2] > 0 else 1)
    axes.text(label[0], label[1], "z", color=GREY, fontsize=9.5, ha="center", va="center")
