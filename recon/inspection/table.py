"""An inspection as text for a terminal."""

import numpy as np

from recon.frames import frame_scale
from recon.inspection.coverage import Coverage
from recon.inspection.falloff import Falloff
from recon.inspection.findings import Finding
from recon.inspection.light import light_of
from recon.inspection.measure import Measures
from recon.inspection.sphere import points_outside
from recon.views import Views


def table(
    title: str, views: Views, measures: Measures, covered: Coverage, fall: Falloff, findings: list[Finding]
) -> str:
    """One line a view, then what holds of the whole set, then the warnings."""
    return "\n".join(
        [title, "", *_rows(measures, findings), "", *_summary(views, measures, covered, fall), "", *_warnings(findings)]
    )


def light_name(views: Views) -> str:
    """Where the light is, in words."""
    if views.light_direction is not None:
        return "distant, a direction an image"
    return "taken for the camera's flash" if views.light_position is None else "near, a position an image"


def scale_name(views: Views) -> str:
    """How long a unit of the source is, in words."""
    if views.metres is None:
        return "unknown: nothing says how long a unit of the source is ('recon extract --marker')"
    found = views.metadata["settings"]["scale"]
    up = ", ".join(f"{each:.3f}" for each in views.up or ())
    return (
        f"a unit of the source is {views.metres:.4g} m, by the marker {found.get('marker')} in {found.get('views')} "
        f"views; up is ({up})"
    )


def fall_name(fall: Falloff) -> str:
    """The fall-off in words."""
    if fall.exponent is None:
        return f"cannot be told: {fall.reason}"
    return f"brightness goes as distance^{-fall.exponent:.2f} ± {fall.error:.2f}"


def _rows(measures: Measures, findings: list[Finding]) -> list[str]:
    lines = ["view  azimuth  elevation  distance  object  brightness  saturated"]
    for i, azimuth in enumerate(measures.azimuth):
        share = "     –" if measures.share is None else f"{measures.share[i]:6.1%}"
        words = ", ".join(finding.word for finding in findings if i in finding.views)
        lines.append(
            f"{i:4d}  {round(azimuth):6d}°  {round(measures.elevation[i]):8d}°  {measures.distance[i]:8.3f}  {share}  "
            f"{measures.brightness[i]:10.3f}  {measures.saturated[i]:9.2%}  {words}".rstrip()
        )
    return lines


def _summary(views: Views, measures: Measures, covered: Coverage, fall: Falloff) -> list[str]:
    low, high = measures.distance.min(), measures.distance.max()
    unit = frame_scale(views.world_from_unit)
    return [
        f"light      {light_name(views)}",
        f"distance   {low:.3g} to {high:.3g} radii of the unit sphere, whose radius is {unit:.4g} in the source's unit",
        f"scale      {scale_name(views)}",
        *_points(views),
        f"coverage   no view sees {covered.share(0, 0):.0%} of the object, one {covered.share(1, 1):.0%}, "
        f"two or more {covered.share(2):.0%}; half of it is seen by {np.median(covered.seen):.0f} or more",
        f"fall-off   {fall_name(fall)}",
        f"lit by     {light_of(views, covered).sentence}",
    ]


def _points(views: Views) -> list[str]:
    found = points_outside(views)
    if found is None:
        return []
    share = found.outside / max(found.all, 1)
    return [
        f"points     {found.all} of structure from motion; {found.outside} ({share:.1%}) lie outside the unit sphere"
    ]


def _warnings(findings: list[Finding]) -> list[str]:
    return [f"warning: {finding.line()}" for finding in findings] or ["no warnings"]
