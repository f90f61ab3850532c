"""Pictures of a mesh in all cameras, through the compiled loops: what `recon.render.renderer` does in torch."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon.camera import Cameras
from recon.render.antialias import find_crossings
from recon.render.compiled.light import separate_light
from recon.render.compiled.picture import picture
from recon.render.compiled.rasterize import nearest_faces
from recon.render.compiled.surface import Grid, Seen, surface
from recon.render.normals import vertex_normals
from recon.render.rasterize import OnScreen
from recon.render.renderer import Shader
from recon.render.shade import Angles


def render_pixels(
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    cameras: Cameras,
    albedo: Float[Tensor, "v k"],
    shader: Shader,
    samples: int,
    margin: int,
    *,
    antialias: bool,
    cull: bool,
) -> tuple[Float[Tensor, "4 n h w"], Float[Tensor, "5 n h w"]]:
    """(radiance, alpha) with gradient, and (normals, depth, 1 where there is a surface) without: means over pixels.

    Args:
        cameras: of the samples, samples x samples of them a pixel, and `margin` more on each side.

    The others are as `recon.render.renderer.render` has them.
    """
    with torch.no_grad():
        points = cameras.project(vertices).permute(2, 0, 1)
    nearest = nearest_faces(points.contiguous(), faces.contiguous(), cameras.height, cameras.width, cull)
    grid = Grid.of(cameras.height, cameras.width, samples, margin)
    normals = vertex_normals(vertices, faces)
    flash = cameras.lights is None
    seen, details = surface(vertices, albedo, normals, faces, cameras, nearest, grid, flash=flash)
    radiance = shader(seen.mixed.T, *_light(seen, cameras, nearest.counts))
    crossings = None
    if antialias:
        crossings = find_crossings(vertices, faces, cameras, OnScreen(points, [], nearest.area), nearest.depth)
    return picture(radiance.T, nearest.face, grid, samples, crossings), details.div_(samples**2)


def _light(
    seen: Seen, cameras: Cameras, counts: list[int]
) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"], Angles | None]:
    """See `recon.render.shade.illuminate`."""
    if cameras.lights is None:
        return (*seen.light, None)
    return separate_light(seen.light, counts, cameras.centers, cameras.lights)
