"""Where views see the background through what the mesh covers: a handle, a ring, a hole.

The surface is a deformed sphere. An object that is none is closed by it with a membrane, which every view that looks
through the hole contradicts. A pixel is such a place where the surface covers it, away from its outline, and it shows
the background: as the mask says, or, without masks, because the background explains the photograph and the surface
does not. Points of the surface that fall on such pixels in several views make the places that are told; one view could
have a bad mask.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.ndimage import binary_erosion, binary_opening
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from recon.camera import Cameras
from recon.evaluation.match import Match
from recon.frames import moved
from recon.images.pictures import Tone, tone_map
from recon.model.model import SurfaceMesh
from recon.views import Views

SEVERAL = 3
"""Views that see through a point of the surface which is told of."""

BORDER = 0.015
"""Width of the rim inside an outline, relative to the shorter side of a picture, in which an error is one of the
outline; two pixels at least."""

LEAST = 0.002
"""Share of the surface's area below which a place is not told of."""

WRONG, EXPLAINED = 0.05, 0.25
"""Without masks: mean absolute error of the surface in a pixel that it does not explain, and part of this that the
background's error there is at most."""

SHOWN = 4
"""Views of a place in the picture: those that see most through it."""

COLOR = "#ff9f1c"
GREY = "#767676"
CELL = 2.2
"""Inches of a view's longer side."""
DPI = 128


class Place(NamedTuple):
    """A patch of the surface that several views see through.

    Attributes:
        share: of the surface's area.
        views: that see through some of it.
        center: its middle, in the source's frame.
    """

    share: float
    views: list[int]
    center: tuple[float, float, float]

    def as_dict(self) -> dict[str, Any]:
        return {"share": self.share, "views": self.views, "center": list(self.center)}


class _Seen(NamedTuple):
    """A view that sees through the surface: its number, at how many pixels, photograph and prediction, and where."""

    view: int
    pixels: int
    image: Float[np.ndarray, "h w 3"]
    prediction: Float[np.ndarray, "h w 3"]
    through: Bool[np.ndarray, "h w"]


class Holes:
    """The places of one mesh that the views of a set, which come in parts, see through."""

    def __init__(self, mesh: SurfaceMesh, world_from_unit: Float[np.ndarray, "4 4"]) -> None:
        self._mesh, self._world_from_unit = mesh, world_from_unit
        self._votes: list[Bool[np.ndarray, " v"]] = []
        self._seen: list[_Seen] = []

    def add(self, views: Views, found: Match) -> None:
        """The next views of the set, in the model's frame and radiance scale, and what was found of them."""
        first = len(self._votes)
        through = seen_through(views, found)
        self._votes += list(_fall_on(self._mesh, Cameras.from_views(views), through))
        for i in np.flatnonzero(through.any(axis=(1, 2))):
            place = through[i].copy()
            self._seen.append(
                _Seen(first + int(i), int(place.sum()), views.images[i].copy(), found.prediction[i].copy(), place)
            )
        self._seen = sorted(self._seen, key=lambda seen: -seen.pixels)[:SHOWN]

    def places(self) -> list[Place]:
        """Those that `SEVERAL` views see through, the largest first."""
        votes = np.stack(self._votes)
        chosen = votes.sum(axis=0) >= SEVERAL
        faces = self._mesh.faces.cpu().numpy()
        vertices = self._mesh.vertices.detach().cpu().numpy().astype(np.float64)
        area = _areas(vertices, faces)
        found = []
        for patch in _patches(faces, chosen):
            share = float(area[patch].sum() / area.sum())
            if share >= LEAST:
                center = np.average(vertices[patch], axis=0, weights=area[patch])
                x, y, z = moved(center[None], self._world_from_unit)[0].tolist()
                views = np.flatnonzero(votes[:, patch].any(axis=1)).tolist()
                found.append(Place(share, views, (x, y, z)))
        return sorted(found, key=lambda place: -place.share)

    def picture(self, name: str, tone: Tone = "clamp") -> UInt8[np.ndarray, "h w 4"]:
        """The views of the set `name` that see most through the surface: the photographs above what is predicted, and
        outlined in both where that is."""
        height, width = self._seen[0].through.shape
        high, wide = CELL * height / max(height, width), CELL * width / max(height, width)
        figure = Figure(figsize=(len(self._seen) * wide + 0.4, 2 * high + 0.4), dpi=DPI, facecolor="none")
        canvas = FigureCanvasAgg(figure)
        figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
        axes = figure.subplots(2, len(self._seen), squeeze=False)
        for column, seen in zip(axes.T, self._seen, strict=True):
            for axis, radiance in zip(column, (seen.image, seen.prediction), strict=True):
                axis.imshow(tone_map(radiance, tone))
                axis.contour(seen.through.astype(float), levels=[0.5], colors=[COLOR], linewidths=1.2)
                axis.set(xticks=[], yticks=[])
                axis.spines[:].set_visible(False)
            column[0].set_title(f"{name}, view {seen.view}", color=GREY, fontsize=9.5, pad=3)
        axes[0, 0].set_ylabel("photograph", color=GREY, fontsize=10)
        axes[1, 0].set_ylabel("prediction", color=GREY, fontsize=10)
        canvas.draw()
        return np.array(canvas.buffer_rgba())


def sentence(places: Mapping[str, list[Place]]) -> str | None:
    """What to say of the largest place of the viewpoint sets; None where there is none."""
    found = [(name, place) for name, each in places.items() for place in each]
    if not found:
        return None
    name, place = max(found, key=lambda each: each[1].share)
    x, y, z = place.center
    return (
        f"{len(place.views)} views of '{name}' see the background through {place.share:.1%} of the surface, about "
        f"({x:.4g}, {y:.4g}, {z:.4g}): the object may have a handle or a hole there, which a deformed sphere closes"
    )


def seen_through(views: Views, found: Match) -> Bool[np.ndarray, "n h w"]:
    """The pixels that the surface covers, away from its outline, and that show the background."""
    covered = found.alpha > 0.99
    border = max(2, round(BORDER * min(views.height, views.width)))
    inner = np.stack([binary_erosion(each, iterations=border, border_value=1) for each in covered])
    through = inner & _background(views, found)
    if views.known is not None:
        through &= views.known > 0
    # What is narrower than three pixels is noise, or an outline that is off.
    return np.stack([binary_opening(each, np.ones((3, 3), bool)) for each in through])


def _background(views: Views, found: Match) -> Bool[np.ndarray, "n h w"]:
    """Where the photographs show what is behind the object."""
    if views.masks is not None:
        return views.masks == 0
    behind = 0.0 if found.background is None else found.background
    wrong = np.abs(found.prediction - views.images).mean(axis=3)
    return (wrong > WRONG) & (np.abs(behind - views.images).mean(axis=3) < EXPLAINED * wrong)


def _fall_on(mesh: SurfaceMesh, cameras: Cameras, chosen: Bool[np.ndarray, "n h w"]) -> Bool[np.ndarray, "n v"]:
    """Which vertices fall on the chosen pixels of each view, whatever is before them."""
    vertices = mesh.vertices.detach().cpu()
    local = torch.einsum("nij,nvj->nvi", cameras.world_to_image, vertices - cameras.centers[:, None])
    place = (local[..., :2] / local[..., 2:].clamp(min=1e-6)).floor().long()
    size = torch.tensor([cameras.width, cameras.height])
    inside = (local[..., 2] > 0) & ((place >= 0) & (place < size)).all(dim=2)
    column, row = place.clamp(min=0).minimum(size - 1).unbind(2)
    view = torch.arange(len(cameras))[:, None]
    return (torch.from_numpy(chosen)[view, row, column] & inside).numpy()


def _areas(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, " v"]:
    """A third of the area of the faces at each vertex."""
    a, b, c = vertices[faces].transpose(1, 0, 2)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
    return np.bincount(faces.ravel(), np.repeat(area, 3), minlength=len(vertices))


def _patches(faces: Int[np.ndarray, "f 3"], chosen: Bool[np.ndarray, " v"]) -> list[Int[np.ndarray, " k"]]:
    """The vertices of each connected part of the chosen ones."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = edges[chosen[edges].all(axis=1)]
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(len(chosen),) * 2)
    label = connected_components(graph, directed=False)[1]
    return [np.flatnonzero((label == each) & chosen) for each in np.unique(label[chosen])]
