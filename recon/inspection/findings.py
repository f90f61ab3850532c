"""What looks wrong with a viewpoint set. None of it forbids training; all of it is worth a look."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from recon.inspection.coverage import Coverage
from recon.inspection.falloff import Falloff
from recon.inspection.holes import views_with_holes
from recon.inspection.light import Light, light_of
from recon.inspection.measure import Measures
from recon.inspection.outlines import outlined
from recon.inspection.sphere import MANY, points_outside
from recon.views import Views

FEW = 8
"""Cameras below which the shape is hardly determined."""

EMPTY, FULL = 0.0005, 0.98
"""Shares of the picture beyond which a mask is as good as empty or full."""

SATURATED = 0.01
"""Share of an object's pixels that may be saturated: highlights of a few pixels are left out of the comparison."""

SMALL = 0.1
"""Share of the usual size of a mask below which it is one of something else."""

ODD = 30.0
"""How many times as bright as usual a view is at most, or the other way round: three times as near is nine times."""

FAR = 5.0
"""Distance of a light from its camera, in distances of the camera from the object, that no flash has."""

NEGATIVE = 0.01
"""Share of the brightest value below zero that noise about black does not reach."""

ONE_SIDE = 80.0
"""Degrees from the cameras' mean direction within which all of them lie, at most, to be on one side."""

UNSEEN = 0.2
"""Share of the object that may be seen by fewer than two views."""


OUTSIDE = 0.05
"""Share of the points that many views see which may lie outside the unit sphere: on a table, say."""


class Finding(NamedTuple):
    """A warning: a word for tables, a sentence, and the views that it is about; none: the whole set."""

    word: str
    sentence: str
    views: tuple[int, ...] = ()

    def line(self) -> str:
        """The warning in one line, with its views."""
        if not self.views:
            return self.sentence
        return f"{'view' if len(self.views) == 1 else 'views'} {spans(self.views)}: {self.sentence}"


def find(views: Views, measures: Measures, covered: Coverage, fall: Falloff) -> list[Finding]:
    """Every warning, the gravest first."""
    return [
        *_masks(views, measures),
        *_holes(views),
        *_exposure(views, measures),
        *_cameras(views, measures, covered),
        *_sphere(views),
        *_fall(fall),
        *find_light(light_of(views, covered)),
    ]


def _masks(views: Views, measures: Measures) -> Iterator[Finding]:
    if measures.share is None and outlined(views).masks is not None:
        return
    if measures.share is None:
        yield Finding("no masks", "no masks: what is object and what is background must be learned")
        return
    empty, full = measures.share < EMPTY, measures.share > FULL
    if empty.any():
        yield Finding("empty mask", "the mask is empty, or nearly so", _where(empty))
    if full.any():
        yield Finding("full mask", "the mask is full: it marks the whole picture as object", _where(full))
    if (inverted := measures.inverted & ~full).any():
        yield Finding("inverted", "the mask marks the picture's border all around: is it inverted?", _where(inverted))
    usual = np.median(measures.share)
    if (small := (measures.share < SMALL * usual) & ~empty).any():
        yield Finding("small mask", "the mask is much smaller than those of the others", _where(small))
    if (cut := measures.touches & ~full & ~inverted).any():
        yield Finding("at border", "the object touches the picture's border: it may be cut off there", _where(cut))


def _holes(views: Views) -> Iterator[Finding]:
    found = views_with_holes(views)
    if found:
        yield Finding(
            "hole",
            "the mask encloses background: a handle, a ring, or parts that it leaves out? The surface is a deformed "
            "sphere, and closes what is open",
            tuple(found),
        )


def _exposure(views: Views, measures: Measures) -> Iterator[Finding]:
    if views.images.max() <= 0:
        yield Finding("black", "all pictures are black")
        return
    negative = views.images.min(axis=(1, 2, 3)) < -NEGATIVE
    if negative.any():
        yield Finding(
            "negative", f"radiance as low as {views.images.min():.3g}: is a black level wrong?", _where(negative)
        )
    usual = np.median(measures.brightness)
    if (odd := (measures.brightness > ODD * usual) | (measures.brightness * ODD < usual)).any():
        yield Finding("exposure", "its brightness is far from the others': was it lit and exposed alike?", _where(odd))
    # Some pixel is the brightest; several that are equal, to the last digit, were cut off.
    saturated = (measures.saturated > SATURATED) & (measures.cut_off >= 4)
    if saturated.any():
        most, where = 100 * measures.saturated.max(), "object" if views.masks is not None else "unit sphere's picture"
        sentence = f"saturated pixels, up to {most:.2g}% of the {where}: expose less, shading is lost there"
        yield Finding("saturated", sentence, _where(saturated))


def _cameras(views: Views, measures: Measures, covered: Coverage) -> Iterator[Finding]:
    places = len(np.unique(views.camera_to_world.round(6), axis=0))
    if places < FEW:
        yield Finding(
            "few cameras", f"{places} camera{'s' * (places != 1)} only: {FEW} or more determine a shape better"
        )
    near = measures.distance < 1
    if near.any():
        yield Finding("inside", "the camera is inside the unit sphere, where only the object should be", _where(near))
    if views.light_position is not None:
        away = np.linalg.norm(views.light_position - views.camera_to_world[:, :3, 3], axis=1)
        if (far := away > FAR * measures.distance).any():
            yield Finding(
                "far light", "the light is far from its camera: is its offset in the source's unit?", _where(far)
            )
    angle, azimuth, elevation = mean_direction(views)
    if angle < ONE_SIDE:
        yield Finding(
            "one side",
            f"all cameras are on one side, within {angle:.0f}° of {place(azimuth, elevation)}",
        )
    if (unseen := covered.share(0, 1)) > UNSEEN:
        azimuth, elevation = covered.unseen_center()
        yield Finding(
            "unseen",
            f"{100 * unseen:.0f}% of the object is seen by fewer than two views, about {place(azimuth, elevation)}"
            f": its shape there will be a guess",
        )


def _sphere(views: Views) -> Iterator[Finding]:
    found = points_outside(views)
    if found is not None and found.many_outside > OUTSIDE * found.many:
        yield Finding(
            "sphere",
            f"{found.many_outside} of the {found.many} points that {MANY} or more views see lie outside the unit "
            "sphere, where no surface is fitted: look whether it cuts the object ('recon extract --sphere' moves it)",
        )


def place(azimuth: float, elevation: float) -> str:
    """A direction in words, in whole degrees."""
    return f"azimuth {180 - (180 - round(azimuth)) % 360}°, elevation {round(elevation)}°"


def mean_direction(views: Views) -> tuple[float, float, float]:
    """The largest angle between a camera's direction and the mean of them, and that mean's azimuth and
    elevation; degrees. The angle is 180 where there is no mean."""
    directions = views.camera_to_world[:, :3, 3]
    directions = directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
    mean = directions.mean(axis=0)
    length = np.linalg.norm(mean)
    if length < 1e-6:
        return 180.0, 0.0, 0.0
    x, y, z = mean / length
    angle = np.degrees(np.arccos((directions @ mean / length).clip(-1, 1)).max())
    return float(angle), float(np.degrees(np.arctan2(y, x))), float(np.degrees(np.arcsin(np.clip(z, -1, 1))))


def mean_elevation(views: Views) -> float:
    """The mean of the cameras' elevations, in degrees."""
    x, y, z = views.camera_to_world[:, :3, 3].T
    return float(np.degrees(np.arctan2(z, np.hypot(x, y))).mean())


def _fall(fall: Falloff) -> Iterator[Finding]:
    if fall.exponent is not None and fall.verdict == "other":
        yield Finding(
            "fall-off",
            f"brightness goes as distance^{-fall.exponent:.1f} ± {fall.error:.1f}, expected distance^-2: is there "
            "other light, do exposures differ, are the pictures linear?",
        )


def find_light(light: Light) -> Iterator[Finding]:
    """A warning where shading does not tell the shape, or not alone."""
    if light.kind == "mixed":
        yield Finding(
            "mixed light",
            f"the light is {light.sentence}: darken the room, or let training learn the other light too "
            "('--set light.ambient=true')",
        )
    if light.kind == "fixed":
        yield Finding(
            "fixed light",
            f"the light is {light.sentence}: shading tells no shape here; give masks and fit outlines "
            "('--set loss.silhouette=1'), or photograph with the camera's flash in the dark",
        )


def _where(chosen: np.ndarray) -> tuple[int, ...]:
    return tuple(np.flatnonzero(chosen).tolist())


def spans(views: tuple[int, ...]) -> str:
    """0, 1, 2, 5 as "0–2, 5"."""
    parts: list[list[int]] = []
    for view in views:
        if parts and view == parts[-1][-1] + 1:
            parts[-1].append(view)
        else:
            parts.append([view])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}–{part[-1]}" for part in parts)
