"""The light of a picture: the camera's flash, a point, an environment."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from recon.frames import frame_rotation
from recon.model.model import Model, SurfaceMesh
from recon.relighting.environment_map import EnvironmentMap, read_environment_map
from recon.relighting.paths import check_outside, turntable_distance
from recon.render.lighting import Lighting, cast

CAMERA = "camera"
"""The name of the light that a camera carries."""

POINT_MAP = 2048
"""Texels along a side of a point light's depth map: half a thousandth of the object each."""

MAPS_MEMORY = 1 << 26
"""Bytes that the depth maps of an environment take together."""

LARGEST_MAP = 512

Point = Float[np.ndarray, " 3"]


@dataclass(frozen=True, eq=False)
class Light:
    """What shines on the object.

    Attributes:
        lighting: as `render` takes it, for the reflectance's `reflect`; None for the flash of each camera.
        intensity: of the flash, where that shines; the others have it in their colours.
        environment: what cameras see behind the object, where there is one.
        gain: from its radiance to the model's.
    """

    lighting: Lighting | None
    intensity: float = 1.0
    environment: EnvironmentMap | None = None
    gain: float = 1.0


def parse_light(text: str) -> str | Point | Path:
    """What `--light` says: `CAMERA`, a point, or the path of an environment.

    Raises:
        ValueError: three numbers that are not all finite.
    """
    if text == CAMERA:
        return CAMERA
    parts = text.split(",")
    try:
        numbers = np.array([float(part) for part in parts])
    except ValueError:
        return Path(text)
    if len(numbers) != 3 or not np.isfinite(numbers).all():
        raise ValueError
    return numbers


@torch.no_grad()
def create_light(what: str | Point | Path, model: Model, mesh: SurfaceMesh, intensity: float, samples: int) -> Light:
    """The light that `parse_light` found, with its shadows on the mesh.

    A point light has `intensity` times the intensity of the flash. An environment's radiance has no unit in common with
    the flash, whose intensity nobody has measured: it is scaled so that over all directions it brings as much light to
    the object as the flash does from the turntable's distance, times `intensity`.

    Args:
        what: a point is in the source's frame, and so are the axes of an environment.
        samples: directions that are drawn from an environment.

    Raises:
        ReconError: the environment cannot be read; a point is in the object or touches it.
    """
    if isinstance(what, Path):
        return _environment(read_environment_map(what), model, mesh, intensity, samples)
    if isinstance(what, str):
        return Light(None, intensity)
    unit_from_world = np.linalg.inv(model.world_from_unit)
    place = unit_from_world[:3, :3] @ what + unit_from_world[:3, 3]
    name = ",".join(f"{value:g}" for value in what)
    check_outside(place[None], mesh, lambda _: f"--light {name}: the light")
    light = _homogeneous(place[None], 1.0, mesh)
    colors = torch.full_like(light[:, :3], intensity)
    look_up = model.reflectance.parameters_of
    return Light(cast(mesh.vertices, mesh.faces, light, colors, POINT_MAP, kernel=1, parameters_of=look_up))


def _environment(environment: EnvironmentMap, model: Model, mesh: SurfaceMesh, intensity: float, samples: int) -> Light:
    found = environment.sample(samples)
    lights = _homogeneous(found.directions @ frame_rotation(model.world_from_unit), 0.0, mesh)
    gain = intensity / (np.pi * environment.mean * turntable_distance(mesh) ** 2)
    colors = torch.from_numpy(found.irradiance * gain).to(mesh.vertices)
    # Bytes of a map are four a texel.
    size = min(LARGEST_MAP, int((MAPS_MEMORY / (4 * samples)) ** 0.5))
    look_up = model.reflectance.parameters_of
    lighting = cast(mesh.vertices, mesh.faces, lights, colors, size, kernel=0, parameters_of=look_up)
    return Light(lighting, 1.0, environment, gain)


def _homogeneous(places: Float[np.ndarray, "s 3"], last: float, mesh: SurfaceMesh) -> Float[Tensor, "s 4"]:
    return torch.from_numpy(np.pad(places, ((0, 0), (0, 1)), constant_values=last)).to(mesh.vertices)
