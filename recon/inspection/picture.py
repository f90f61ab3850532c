"""An inspection as one picture: views, cameras, coverage, exposure, fall-off, warnings."""

import textwrap

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from recon.inspection.camera_plot import draw_globe, draw_map
from recon.inspection.contact_sheet import draw_contact_sheet
from recon.inspection.coverage import Coverage
from recon.inspection.falloff import Falloff
from recon.inspection.findings import Finding
from recon.inspection.plots import draw_exposure, draw_falloff
from recon.inspection.style import ALARM, FINE, GREY, INK, PAPER, TITLE
from recon.inspection.table import light_name
from recon.views import Views

WIDTH, HEIGHT = 16.0, 10.0
"""Inches."""

DPI = 120
LEFT = 0.022
LINE = 0.024
"""Height of a line of warnings, relative to the picture."""


def draw(title: str, views: Views, covered: Coverage, fall: Falloff, findings: list[Finding]) -> Figure:
    """The figure, ready to be saved."""
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    lines = [line for each in findings for line in textwrap.wrap(each.line(), 190, subsequent_indent="    ")]
    foot = 0.05 + LINE * max(len(lines), 1)
    height = 0.885 - foot
    figure.text(LEFT, 0.972, title, color=INK, fontsize=17, weight="bold", va="top")
    figure.text(LEFT, 0.932, subtitle(views), color=GREY, fontsize=11, va="top")

    def panel(left: float, bottom: float, width: float, share: float, projection: str | None = None) -> Axes:
        axes = figure.add_axes((left, foot + bottom * height, width, share * height), projection=projection)
        axes.set_facecolor(PAPER)
        return axes

    top = foot + 0.995 * height
    figure.text(0.487, top, "cameras around the unit sphere", **TITLE, va="top")
    figure.text(0.757, top, "coverage", **TITLE, va="top")
    flagged = sorted({view for finding in findings for view in finding.views})
    draw_contact_sheet(panel(LEFT, 0.0, 0.44, 1.0), views, flagged)
    draw_globe(panel(0.487, 0.43, 0.255, 0.51), views, covered)
    draw_map(panel(0.772, 0.59, 0.206, 0.34, "mollweide"), panel(0.79, 0.555, 0.17, 0.016), views, covered)
    draw_exposure(panel(0.525, 0.08, 0.215, 0.25), views)
    draw_falloff(panel(0.797, 0.08, 0.181, 0.25), fall)
    _warnings(figure, foot - 0.022, lines)
    return figure


def subtitle(views: Views) -> str:
    """What the set comes with, in words."""
    masks = "no masks" if views.masks is None else "masks outlined"
    scale = f"radiance scale {views.radiance_scale:.4g}"
    return "   ·   ".join([masks, "unit sphere dashed", f"light: {light_name(views)}", scale])


def _warnings(figure: Figure, top: float, lines: list[str]) -> None:
    color = ALARM if lines else FINE
    bar = Rectangle((LEFT, 0.018), 0.0035, top - 0.018, color=color, lw=0, transform=figure.transFigure)
    figure.add_artist(bar)
    text = "\n".join(lines) or "no warnings"
    figure.text(LEFT + 0.012, top, text, color=INK, fontsize=10.5, va="top", linespacing=1.45)
