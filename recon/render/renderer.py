"""Differentiable images of a mesh, lit by the camera's flash or by each view's own light."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon.camera import Cameras
from recon.render.antialias import antialias as blend_edges
from recon.render.antialias import find_crossings
from recon.render.box_filter import average
from recon.render.intersect import Hits, interpolate, intersect, of_views
from recon.render.kernels.serving import serves
from recon.render.lighting import Lighting
from recon.render.normals import face_normals, unit, vertex_normals
from recon.render.rasterize import on_screen, visible_faces
from recon.render.shade import Angles, illuminate

MARGIN = 1
"""Pixels rendered around the window, for a silhouette just outside it blends into its border. Where there are several
samples a pixel, as many samples."""


@runtime_checkable
class Shader(Protocol):
    """What turns attributes and light into colours: `diffuse`, or a reflectance of `recon.model.reflectance`."""

    def __call__(
        self,
        attributes: Float[Tensor, "p k"],
        irradiance: Float[Tensor, " p"],
        cosine: Float[Tensor, " p"],
        angles: Angles | None = None,
        /,
    ) -> Float[Tensor, "p 3"]:
        """Linear radiance towards the camera at points of the surface.

        Args:
            attributes: of the vertices, interpolated there.
            irradiance: of a light of unit intensity, from `recon.render.shade`.
            cosine: of the angle between normal and light.
            angles: the other angles, None where the light is the camera's flash and all directions are one.
        """


class Rendering(NamedTuple):
    """Images of `n` views, linear.

    radiance: what the camera sees, mesh and background. alpha: the surface's share of the pixel, in [0, 1] but for
    pixels that several silhouettes cross, which may leave it a little. Both carry gradient.
    depth: along the optical axis, in units of the world. normals: unit, in the world. Both are 0 where nothing is seen
    and carry no gradient.
    surface, background: the surface's part of the radiance, and what is seen without it, where a field has composed
    the picture (`recon.background.composite`), else None.
    """

    radiance: Float[Tensor, "n h w 3"]
    alpha: Float[Tensor, "n h w"]
    depth: Float[Tensor, "n h w"]
    normals: Float[Tensor, "n h w 3"]
    surface: Float[Tensor, "n h w 3"] | None = None
    background: Float[Tensor, "n h w 3"] | None = None


def diffuse(
    albedo: Float[Tensor, "p 3"],
    irradiance: Float[Tensor, " p"],
    cosine: Float[Tensor, " p"],
    angles: Angles | None = None,
) -> Float[Tensor, "p 3"]:
    """Radiance of a diffuse surface, albedo * irradiance; `albedo` includes the light's intensity and 1 / pi."""
    return albedo * irradiance[:, None]


def render(
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    cameras: Cameras,
    *,
    albedo: Float[Tensor, "v k"],
    background: Float[Tensor, "..."] | None = None,
    shader: Shader = diffuse,
    antialias: bool = True,
    smooth: bool = True,
    cull: bool = True,
    samples: int = 1,
    lighting: Lighting | None = None,
) -> Rendering:
    """Render a mesh in every camera.

    Args:
        vertices: in the world.
        faces: corners, counter-clockwise seen from outside.
        cameras: `n` views of h x w pixels, with their lights. They get no gradient.
        albedo: vertex attributes that `shader` takes, by default the diffuse albedo, (v, 3).
        background: radiance behind the mesh, anything that broadcasts to (n, h, w, 3); None: black.
        antialias: blend silhouettes; this is the only source of the gradient of visibility.
        smooth: interpolate vertex normals; else faces are flat.
        cull: leave out faces seen from inside, which a closed mesh never shows.
        samples: shade samples x samples points a pixel and average them; depth and normals are
            averages over the seen ones.
        lighting: light in place of the cameras' own (`Cameras.lights`), with cast shadows.

    Returns:
        Pictures of h x w pixels. Radiance and alpha carry gradient to `vertices`, `albedo` and `background`.
    """
    margin = MARGIN if antialias else 0
    fine = cameras.scaled(samples).padded(margin)
    scene = vertices, faces, fine, albedo, shader, samples, margin
    if lighting is None and smooth and vertices.dtype == torch.float32 and kernels_work(vertices.device):
        image, details = _compiled(vertices.device)(*scene, antialias=antialias, cull=cull)
    else:
        image, details = torch_pixels(*scene, lighting, antialias=antialias, smooth=smooth, cull=cull)
    radiance, alpha = image[:3].permute(1, 2, 3, 0), image[3]
    if background is not None:
        radiance = radiance + (1 - alpha)[..., None] * background
    depth = details[3] / details[4].clamp(min=1e-12)
    return Rendering(radiance, alpha, depth, unit(details[:3].flatten(1)).T.view(*depth.shape, 3))


def kernels_work(device: torch.device) -> bool:
    """Whether the compiled loops for this device serve; the first time, which takes seconds, they are tried out."""
    return serves(_trial, device, "rendering")


def _compiled(device: torch.device) -> Callable[..., tuple[Float[Tensor, "4 n h w"], Float[Tensor, "5 n h w"]]]:
    """What does the same as `torch_pixels` in compiled loops."""
    if device.type == "cuda":
        from recon.render.kernels.samples import render_pixels as kernel_pixels

        return kernel_pixels
    from recon.render.compiled.samples import render_pixels

    return render_pixels


def _trial(device: torch.device) -> None:
    from recon.render.trial import check

    check(device, _compiled(device))


def torch_pixels(
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    cameras: Cameras,
    albedo: Float[Tensor, "v k"],
    shader: Shader,
    samples: int,
    margin: int,
    lighting: Lighting | None = None,
    *,
    antialias: bool,
    smooth: bool = True,
    cull: bool,
) -> tuple[Float[Tensor, "4 n h w"], Float[Tensor, "5 n h w"]]:
    """Means of `torch_samples` over pixels of samples x samples; `cameras` have `margin` more samples on each side."""
    planes = torch_samples(
        vertices, faces, cameras, albedo, shader, lighting, antialias=antialias, smooth=smooth, cull=cull
    )
    image, details = (average(part, samples, margin) for part in planes)
    return image, details


def torch_samples(
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    cameras: Cameras,
    albedo: Float[Tensor, "v k"],
    shader: Shader,
    lighting: Lighting | None = None,
    *,
    antialias: bool,
    smooth: bool = True,
    cull: bool,
) -> tuple[Float[Tensor, "4 n h w"], Float[Tensor, "5 n h w"]]:
    """One sample a pixel, in torch.

    Returns:
        (radiance, alpha) with gradient, and (normals, depth, 1 where there is a surface) without.

    All stay together in two arrays, channels first, so that blending and averaging go over each once.
    `recon.render.kernels.samples.render_samples` does the same.
    """
    screen = on_screen(vertices, faces, cameras)
    pix_to_face = visible_faces(screen, faces, cameras.height, cameras.width, cull)
    hits = intersect(vertices, faces, cameras, pix_to_face)
    attributes, normals = _surface_at(vertices, faces, albedo, hits, pix_to_face, smooth)
    if lighting is None:
        radiance = shader(attributes.T, *illuminate(hits.points.T, normals.T, cameras, hits.view))
    else:
        centers = of_views(cameras.centers, hits.view).T
        radiance = lighting(hits.points.T, normals.T, centers, attributes.T, shader)
    ones = torch.ones_like(hits.depth)[None]
    image = _scatter(hits, torch.cat([radiance.T, ones]), pix_to_face.shape)
    with torch.no_grad():
        details = _scatter(hits, torch.cat([normals, hits.depth[None], ones]), pix_to_face.shape)
    if antialias:
        image = blend_edges(image, find_crossings(vertices, faces, cameras, screen, details[3]))
    return image, details


def _surface_at(
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    attributes: Float[Tensor, "v k"],
    hits: Hits,
    pix_to_face: Int[Tensor, "n h w"],
    smooth: bool,
) -> tuple[Float[Tensor, "k p"], Float[Tensor, "3 p"]]:
    """Attributes and unit normals at the visible points. Normals that are smooth are interpolated with the attributes,
    in one pass, and made unit again."""
    rows = torch.cat([attributes.T, vertex_normals(vertices, faces).T]) if smooth else attributes.T.contiguous()
    mixed = interpolate(rows, hits)
    if smooth:
        mixed, normals = mixed.split([attributes.shape[1], 3])
    else:
        seen = pix_to_face.flatten().index_select(0, hits.pixel)
        normals = face_normals(vertices, faces).index_select(0, seen).T
    return mixed, unit(normals)


def _scatter(hits: Hits, values: Float[Tensor, "c p"], shape: torch.Size) -> Float[Tensor, "c n h w"]:
    """Pictures of `shape` (n, h, w) with the values of the hits in their pixels, 0 elsewhere."""
    flat = values.new_zeros((len(values), shape.numel()))
    return flat.index_copy_(1, hits.pixel, values).view(-1, *shape)
