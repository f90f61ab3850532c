"""Whether brightness falls with the squared distance from the light."""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from recon.inspection.coverage import Coverage
from recon.inspection.measure import Measures
from recon.views import Views

SPREAD = 1.25
"""The farthest light must be so many times as far as the nearest for a fall-off to be told."""

UNSURE = 0.5
"""Standard error of the exponent beyond which nothing is said."""

TOLERANCE = 0.6
"""How far from 2 the exponent may be beyond two standard errors: views differ in what they show."""


class Falloff(NamedTuple):
    """`brightness` of each view against its light's `distance` from the object's near side.

    `exponent` with its standard `error`: brightness falls with distance^exponent; None where that
    cannot be told, and `reason` says why.
    """

    distance: Float[np.ndarray, " n"]
    brightness: Float[np.ndarray, " n"]
    exponent: float | None
    error: float
    reason: str

    @property
    def verdict(self) -> Literal["squared", "other", "unknown"]:
        if self.exponent is None:
            return "unknown"
        return "squared" if abs(self.exponent - 2) <= TOLERANCE + 2 * self.error else "other"


def falloff(views: Views, measures: Measures, covered: Coverage) -> Falloff:
    """The exponent by least squares of log brightness on log distance."""
    lights = views.camera_to_world[:, :3, 3] if views.light_position is None else views.light_position
    surface = (covered.radius[..., None] * covered.directions).reshape(-1, 3)
    distance = np.array([np.linalg.norm(light - surface, axis=1).min() for light in lights])
    brightness = measures.brightness

    def unknown(reason: str) -> Falloff:
        return Falloff(distance, brightness, None, np.inf, reason)

    if views.light_direction is not None:
        return unknown("the lights are distant")
    used = (brightness > 0) & (distance > 1e-3)
    if used.sum() < 4:
        return unknown("too few views")
    if distance[used].max() < SPREAD * distance[used].min():
        return unknown("all lights are about equally far")
    x, y = np.log(distance[used]), np.log(brightness[used])
    centered = x - x.mean()
    slope = float(centered @ y / (centered @ centered))
    residual = y - y.mean() - slope * centered
    error = float(np.sqrt((residual @ residual) / (len(x) - 2) / (centered @ centered)))
    if error > UNSURE:
        return unknown("views differ too much in other ways")
    return Falloff(distance, brightness, -slope, error, "")
