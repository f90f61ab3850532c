"""nvdiffrast as a peer, where a person has it and a GPU: its licence is non-commercial, and recon never installs it.

Laine et al. 2020, "Modular Primitives for High-Performance Differentiable Rendering". Written from what is known of
its interface and never run: recon's authors have no copy.
"""

from functools import cache
from importlib.metadata import version as installed
from typing import Any

import nvdiffrast.torch as dr
import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon.camera import Cameras
from recon.render.normals import vertex_normals
from recon.render.renderer import Rendering, diffuse
from recon.render.shade import illuminate

NEAR, FAR = 0.1, 10.0


def version() -> str:
    return f"nvdiffrast {installed('nvdiffrast')}, torch {torch.__version__}"


@cache
def _context() -> Any:
    return dr.RasterizeCudaContext()


def render(
    vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], cameras: Cameras, *, albedo: Float[Tensor, "v 3"]
) -> Rendering:
    """As `recon.render.renderer.render`, with one sample a pixel; depth and normals are left empty."""
    clip, triangles = _clip_space(cameras.project(vertices), cameras), faces.int().contiguous()
    raster, _ = dr.rasterize(_context(), clip, triangles, resolution=[cameras.height, cameras.width])
    rows = torch.cat([vertices, vertex_normals(vertices, faces), albedo], dim=1)
    mixed, _ = dr.interpolate(rows[None].contiguous(), raster, triangles)
    points, normals, colour = mixed.flatten(0, 2).split([3, 3, 3], dim=1)
    view = torch.arange(len(cameras), device=vertices.device).repeat_interleave(cameras.height * cameras.width)
    normals = torch.nn.functional.normalize(normals, dim=1)
    shaded = diffuse(colour, *illuminate(points, normals, cameras, view)).view(*mixed.shape[:3], 3)
    hit = (raster[..., 3:] > 0).to(shaded)
    image = dr.antialias(torch.cat([shaded * hit, hit], dim=-1), raster, clip, triangles)
    empty = torch.zeros_like(image[..., 0])
    return Rendering(image[..., :3], image[..., 3], empty, torch.zeros_like(image[..., :3]))


def _clip_space(screen: Float[Tensor, "n v 3"], cameras: Cameras) -> Float[Tensor, "n v 4"]:
    """OpenGL's homogeneous clip coordinates of pixels with depth; row 0 of nvdiffrast's pictures is y = -1."""
    x, y, depth = screen.unbind(-1)
    z = (depth * (FAR + NEAR) - 2 * FAR * NEAR) / (FAR - NEAR)
    planes = [(2 * x / cameras.width - 1) * depth, (2 * y / cameras.height - 1) * depth, z, depth]
    return torch.stack(planes, dim=-1).contiguous()
