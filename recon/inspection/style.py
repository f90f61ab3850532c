"""Colours and axes that the pictures of an inspection share."""

from typing import Any

from matplotlib.axes import Axes

PAPER = "#fbfaf7"
INK = "#22252b"
GREY = "#6f7480"
RULE = "#d8d6cf"
ALARM = "#c8452e"
FINE = "#3c8d63"
OBJECT = "#35608d"
BACKGROUND = "#dccba4"
OUTLINE = "#ff9f1c"
SPHERE = "#4fb3c8"
SEEN = "viridis"
TITLE: dict[str, Any] = {"color": INK, "fontsize": 12, "weight": "bold"}


def plain(axes: Axes, title: str) -> None:
    """A quiet frame, and a title at the left."""
    axes.set_title(title, loc="left", **TITLE)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(RULE)
    axes.tick_params(colors=GREY, labelsize=8.5, which="both")
    axes.xaxis.label.set(color=GREY, fontsize=9.5)
    axes.yaxis.label.set(color=GREY, fontsize=9.5)
