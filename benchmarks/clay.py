"""Meshes as clay under a key light, rendered by recon itself: the pictures of docs/ and README.md."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from recon.camera import Cameras
from recon.images.pictures import srgb
from recon.render.renderer import render
from recon.render.shade import Angles

COLOUR = (0.56, 0.48, 0.39)
KEY = np.array([-0.5, -0.65, -0.75])
"""Towards the light, in the camera's axes: from above the left shoulder."""
AMBIENT, FILL = 0.12, 0.2
SAMPLES = 3

Paint = Callable[[Float[Tensor, "p k"]], Float[Tensor, "p 3"]]


def plain(attributes: Float[Tensor, "p k"]) -> Float[Tensor, "p 3"]:
    """The colour of clay everywhere."""
    return torch.tensor(COLOUR).expand(len(attributes), 3)


def graticule(origin: Float[Tensor, "p 3"]) -> Float[Tensor, "p 3"]:
    """Colours by where a point came from on the sphere, with lines of latitude and longitude every 15 degrees."""
    way = torch.nn.functional.normalize(origin, dim=1)
    x, y, z = way.unbind(1)
    at = torch.stack([torch.atan2(y, x), torch.asin(z.clamp(-1, 1))], dim=1) * 12 / torch.pi
    away = ((at + 0.5) % 1 - 0.5).abs()
    away[:, 0] *= (1 - z**2).clamp(min=0).sqrt()  # meridians crowd at the poles
    line = (1 - (away.amin(dim=1) - 0.03) / 0.03).clamp(0, 1)[:, None]
    return torch.lerp(torch.tensor(COLOUR), 0.5 + 0.5 * way, 0.4) * (1 - 0.75 * line)


@torch.no_grad()
def clay(
    vertices: Float[Tensor, "v 3"],
    faces: Tensor,
    cameras: Cameras,
    attributes: Float[Tensor, "v k"] | None = None,
    paint: Paint = plain,
) -> UInt8[np.ndarray, "h w 4"]:
    """What the first of `cameras` sees, with opacity; `paint` makes colours of the interpolated attributes."""

    def shader(mixed: Tensor, irradiance: Tensor, cosine: Tensor, angles: Angles | None = None) -> Tensor:
        return paint(mixed)

    table = vertices if attributes is None else attributes
    seen = render(vertices, faces, cameras[[0]], albedo=table, shader=shader, samples=SAMPLES)
    alpha = seen.alpha[0, ..., None].numpy()
    normals = seen.normals[0].numpy() @ cameras.camera_to_world[0, :3, :3].numpy()
    key = (normals @ (KEY / np.linalg.norm(KEY))).clip(0)
    light = AMBIENT + FILL * (-normals[..., 2]).clip(0) + (1 - AMBIENT - FILL) * 1.25 * key
    colour = seen.radiance[0].numpy() / alpha.clip(1e-6) * light[..., None]
    return np.rint(255 * np.concatenate([srgb(colour.clip(0, 1)), alpha.clip(0, 1)], axis=2)).astype(np.uint8)
