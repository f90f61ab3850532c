"""Where cameras stand: viewpoint sets as camera paths.

Azimuth 0 looks at the object's front, from the +x axis; elevation is measured from the xy-plane.
"""

import numpy as np
from jaxtyping import Float

from recon.camera import look_at

GOLDEN = (np.sqrt(5) - 1) / 2
UP = np.array([0.0, 0.0, 1.0])


def arc(
    count: int, radius: float, azimuth: tuple[float, float], elevation: tuple[float, float]
) -> Float[np.ndarray, "n 4 4"]:
    """Camera-to-world poses on a patch of a sphere, looking at the origin; angles in degrees.

    Azimuths are evenly spaced, elevations follow the golden ratio, which spreads the cameras over the
    patch (a Kronecker lattice). A full turn leaves out its last camera, which would be the first.
    """
    turn = np.isclose(azimuth[1] - azimuth[0], 360)
    azimuths = np.linspace(*azimuth, count, endpoint=not turn) if count > 1 else np.array([np.mean(azimuth)])
    shares = ((np.arange(count) + 0.5) * GOLDEN) % 1
    return _looking_at_origin(radius, azimuths, elevation[0] + shares * (elevation[1] - elevation[0]))


def even_sphere(count: int, radius: float) -> Float[np.ndarray, "n 4 4"]:
    """Camera-to-world poses all around, evenly (a Fibonacci lattice), looking at the origin."""
    heights = 1 - 2 * (np.arange(count) + 0.5) / count
    azimuths = 360 * ((np.arange(count) * GOLDEN) % 1)
    return _looking_at_origin(radius, azimuths, np.degrees(np.arcsin(heights)))


def _looking_at_origin(
    radius: float, azimuths: Float[np.ndarray, " n"], elevations: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n 4 4"]:
    a, e = np.radians(azimuths), np.radians(elevations)
    eyes = radius * np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=1)
    return look_at(eyes, np.zeros(3), UP)
