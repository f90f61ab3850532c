"""Interactive figures. Colours of text and grid are the page's, which knows whether it is dark."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import trimesh
from jaxtyping import Float, Int
from plotly.colors import qualitative

from recon.report.records import RunRecord, set_names
from recon.views import Views

POINTS_OF_A_CURVE = 300
CLAY = "#cdc4b6"
TICKS = [step * 10.0**power for power in range(-5, 2) for step in (1, 2, 5)]
DASHES = ("dash", "dot", "dashdot", "longdash", "longdashdot")


def run_color(index: int) -> str:
    """The colour of a run in every figure; repeats after 10."""
    return qualitative.T10[index % len(qualitative.T10)]


def loss_curves(records: Sequence[RunRecord], against: Literal["iteration", "seconds"]) -> go.Figure:
    """The image term of the loss and the errors on viewpoint sets in the course of training, log scale.

    A curve of the training shows means over equal parts of it, since crops and views vary.
    """
    figure = go.Figure()
    sets = set_names(name for record in records if record.checkpoints is not None for name in record.checkpoints["set"])
    for i, record in enumerate(records):
        style = {"legendgroup": record.name, "line": {"color": run_color(i), "width": 2}}
        term = "image" if "image" in record.history else "loss"
        curve = _thin(record.history[[against, term]])
        figure.add_scatter(
            x=curve[against],
            y=curve[term],
            name="training",
            legendgrouptitle={"text": record.name},
            hovertemplate=f"{record.name}, training: %{{y:.5f}}<extra></extra>",
            **style,
        )
        if record.checkpoints is None:
            continue
        for k, name in enumerate(sets):
            rows = record.checkpoints[record.checkpoints["set"] == name]
            figure.add_scatter(
                x=rows[against],
                y=rows["mean_absolute_error"],
                name=name,
                mode="lines+markers",
                marker={"size": 6, "symbol": k},
                hovertemplate=f"{record.name}, {name}: %{{y:.5f}}<extra></extra>",
                **style | {"line": {"color": run_color(i), "width": 1.2, "dash": DASHES[k % len(DASHES)]}},
            )
    figure.update_layout(
        template="none",
        margin={"l": 64, "r": 12, "t": 12, "b": 52},
        hovermode="closest",
        legend={"groupclick": "toggleitem", "tracegroupgap": 12},
        xaxis={"title": {"text": against}, "rangemode": "tozero", "zeroline": False},
        yaxis={
            "title": {"text": "mean absolute error"},
            "type": "log",
            "tickvals": TICKS,
            "ticktext": [f"{tick:g}" for tick in TICKS],
            "zeroline": False,
        },
    )
    return figure


def mesh_figure(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> go.Figure:
    """A mesh to turn, in its own axes, z up."""
    index = faces.astype(np.uint16 if len(vertices) <= 2**16 else np.uint32)
    x, y, z = vertices.astype(np.float32).T
    figure = go.Figure(
        go.Mesh3d(
            x=x,
            y=y,
            z=z,
            i=index[:, 0],
            j=index[:, 1],
            k=index[:, 2],
            color=CLAY,
            hoverinfo="skip",
            lighting={"ambient": 0.3, "diffuse": 0.65, "specular": 0.15, "roughness": 0.55, "fresnel": 0.05},
            lightposition={"x": -3000, "y": -6000, "z": 8000},
        )
    )
    figure.update_layout(**_scene())
    return figure


def cameras_figure(views: Views) -> go.Figure:
    """The cameras of a viewpoint set around the unit sphere, as pyramids; z up."""
    figure = go.Figure()
    sphere = trimesh.creation.icosphere(subdivisions=3)
    figure.add_mesh3d(
        **dict(zip("xyz", sphere.vertices.T.astype(np.float32), strict=True)),
        **dict(zip("ijk", sphere.faces.T.astype(np.uint16), strict=True)),
        color=CLAY,
        opacity=0.35,
        hoverinfo="skip",
    )
    lines = _pyramids(views)
    figure.add_scatter3d(
        x=lines[:, 0],
        y=lines[:, 1],
        z=lines[:, 2],
        mode="lines",
        line={"width": 2, "color": run_color(0)},
        hoverinfo="skip",
        connectgaps=False,
    )
    centers = views.camera_to_world[:, :3, 3]
    figure.add_scatter3d(
        x=centers[:, 0],
        y=centers[:, 1],
        z=centers[:, 2],
        mode="markers",
        marker={"size": 3, "color": run_color(0)},
        hovertemplate="view %{pointNumber}<extra></extra>",
    )
    figure.update_layout(showlegend=False, **_scene())
    return figure


def _scene() -> dict[str, object]:
    hidden = {"visible": False, "showspikes": False}
    return {
        "template": "none",
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "scene": {
            "xaxis": hidden,
            "yaxis": hidden,
            "zaxis": hidden,
            "aspectmode": "data",
            "dragmode": "orbit",
            "camera": {"eye": {"x": 0.0, "y": -1.45, "z": 0.4}},
        },
    }


def _thin(curve: pd.DataFrame) -> pd.DataFrame:
    """Means over at most `POINTS_OF_A_CURVE` parts of equal length."""
    part = np.arange(len(curve)) * POINTS_OF_A_CURVE // max(len(curve), POINTS_OF_A_CURVE)
    return curve.groupby(part).mean()


def _pyramids(views: Views, depth: float = 0.25) -> Float[np.ndarray, "m 3"]:
    """A polyline through apex and image corners of each camera, in the unit frame, NaN between them."""
    w, h = views.width, views.height
    corners = np.array([[0, 0, 1], [w, 0, 1], [w, h, 1], [0, h, 1]], dtype=np.float64)
    rays = np.einsum("nij,kj->nki", np.linalg.inv(views.intrinsics), corners) * depth
    local = np.concatenate([np.zeros((len(views), 1, 3)), rays], axis=1)
    world = np.einsum("nij,nkj->nki", views.camera_to_world[:, :3, :3], local) + views.camera_to_world[:, None, :3, 3]
    path = world[:, [0, 1, 2, 0, 3, 4, 0, 1, 4, 3, 2]]
    return np.concatenate([path, np.full((len(views), 1, 3), np.nan)], axis=1).reshape(-1, 3)
