"""The backgrounds of the reference work: cubes outside the unit sphere."""

from collections.abc import Iterable

import numpy as np

from recon.capture.scene import Color, ObjectConfig, Preset

WHITE: list[Color] = [(1.0, 1.0, 1.0)]
COLOURS: list[Color] = [
    (0.9, 0.2, 0.2),
    (0.2, 0.8, 0.3),
    (0.2, 0.3, 0.9),
    (0.9, 0.8, 0.2),
    (0.8, 0.3, 0.8),
    (0.2, 0.8, 0.8),
]


def background_objects(preset: Preset) -> list[ObjectConfig]:
    """`white_cubes` and `coloured_cubes` stand behind the object, as near to the unit sphere as they can
    without hiding it from the front arc; `far_cubes` stand all around, outside the cameras' sphere."""
    if preset == "none":
        return []
    if preset == "far_cubes":
        return _ring(range(0, 360, 45), distance=4.0, half_edge=0.8, colors=WHITE)
    return _ring([135, 180, 225], distance=1.7, half_edge=0.5, colors=WHITE if preset == "white_cubes" else COLOURS)


def _ring(azimuths: Iterable[int], distance: float, half_edge: float, colors: list[Color]) -> list[ObjectConfig]:
    """Two storeys of cubes that turn a face to the origin."""
    places = [(azimuth, z) for azimuth in azimuths for z in (-half_edge, half_edge)]
    return [
        ObjectConfig(
            shape="cube",
            radius=np.sqrt(3) * half_edge,
            rotation=(0, 0, azimuth),
            position=(distance * np.cos(np.radians(azimuth)), distance * np.sin(np.radians(azimuth)), z),
            albedo=colors[i % len(colors)],
        )
        for i, (azimuth, z) in enumerate(places)
    ]
