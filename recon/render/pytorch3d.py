"""The renderer of the reference work: PyTorch3D's soft rasteriser (`render.backend: pytorch3d`).

Liu et al. 2019, "Soft Rasterizer: A Differentiable Renderer for Image-based 3D Reasoning".

It needs PyTorch3D, which has no wheel for current Python: it comes with `workflow/envs/recon.yaml`.
"""

import importlib.util
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon.camera import Cameras
from recon.errors import ReconError
from recon.render.box_filter import average
from recon.render.normals import vertex_normals
from recon.render.renderer import Rendering, Shader, diffuse
from recon.render.shade import illuminate

SIGMA = 1e-4
"""Width of the soft edges, in squared normalised device coordinates (Liu et al. 2019, equation 1)."""

GAMMA = 1e-4
"""Sharpness of the blending over depth (Liu et al. 2019, equation 3)."""

BLUR_RADIUS = 9.21024 * SIGMA
"""Squared distance at which a soft edge has fallen to 1e-4: log(1 / 1e-4 - 1) sigma."""

FACES_PER_PIXEL = 16
"""Nearest faces that are blended in a pixel; PyTorch3D drops the others."""


def require_pytorch3d() -> None:
    """Raise `ReconError` where PyTorch3D is not installed."""
    if importlib.util.find_spec("pytorch3d") is None:
        raise ReconError(
            "key 'render.backend': pytorch3d is not installed; run with `snakemake --sdm conda` "
            "(workflow/envs/recon.yaml), or leave the key at 'torch'"
        )


def render(
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    cameras: Cameras,
    *,
    albedo: Float[Tensor, "v k"],
    background: Float[Tensor, "..."] | None = None,
    shader: Shader = diffuse,
    antialias: bool = True,
    samples: int = 1,
) -> Rendering:
    """As `recon.render.renderer.render`, with soft edges and colours of the nearest `FACES_PER_PIXEL` faces blended.

    Without `antialias` the edges are hard (blur 0), as the reference work renders its colours. Normals are always
    interpolated, and faces seen from inside are not left out.

    Raises:
        ReconError: PyTorch3D is not installed.
    """
    require_pytorch3d()
    from pytorch3d.renderer.blending import BlendParams, softmax_rgb_blend

    fine = cameras.scaled(samples)
    fragments = _fragments(vertices, faces, fine, BLUR_RADIUS if antialias else 0.0)
    hit = fragments.pix_to_face >= 0
    points, normals, attributes = _surface_at(vertices, faces, albedo, fragments, hit)
    view = hit.nonzero()[:, 0]
    shaded = shader(attributes, *illuminate(points, normals, fine, view))
    colors = vertices.new_zeros((*hit.shape, 3)).masked_scatter(hit[..., None], shaded)
    far = float(fragments.zbuf.max()) + 1
    params = BlendParams(sigma=SIGMA, gamma=GAMMA, background_color=(0.0, 0.0, 0.0))
    image = _average(softmax_rgb_blend(colors, fragments, params, znear=0.01, zfar=far), samples)
    alpha = image[..., 3]
    radiance = image[..., :3]
    if background is not None:
        radiance = radiance + (1 - alpha)[..., None] * background
    depth, normal_map = _nearest(fragments, normals, hit, samples)
    return Rendering(radiance, alpha, depth, normal_map)


def _fragments(vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], cameras: Cameras, blur_radius: float) -> Any:
    """PyTorch3D's fragments of every view, with pix_to_face modulo the faces of one mesh left packed."""
    from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
    from pytorch3d.renderer.mesh.rasterizer import Fragments
    from pytorch3d.structures import Meshes

    screen = cameras.project(vertices)
    # Its device coordinates point left and up and span [-1, 1] on the shorter side.
    scale = 2 / min(cameras.height, cameras.width)
    x = (cameras.width / 2 - screen[..., 0]) * scale
    y = (cameras.height / 2 - screen[..., 1]) * scale
    meshes = Meshes(torch.stack([x, y, screen[..., 2]], dim=-1), faces.expand(len(cameras), -1, -1))
    return Fragments(
        *rasterize_meshes(
            meshes,
            (cameras.height, cameras.width),
            blur_radius=blur_radius,
            faces_per_pixel=FACES_PER_PIXEL,
            bin_size=0,  # its bins overflow silently where faces are smaller than pixels
            perspective_correct=True,
            clip_barycentric_coords=True,
        )
    )


def _surface_at(
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    attributes: Float[Tensor, "v k"],
    fragments: Any,
    hit: Tensor,
) -> tuple[Float[Tensor, "p 3"], Float[Tensor, "p 3"], Float[Tensor, "p k"]]:
    """Points and unit normals in the world, and attributes, of all fragments."""
    rows = torch.cat([vertices, vertex_normals(vertices, faces), attributes], dim=1)
    corners = rows[faces[fragments.pix_to_face[hit] % len(faces)]]
    mixed = (fragments.bary_coords[hit][..., None] * corners).sum(1)
    return mixed[:, :3], torch.nn.functional.normalize(mixed[:, 3:6], dim=1), mixed[:, 6:]


@torch.no_grad()
def _nearest(
    fragments: Any, normals: Float[Tensor, "p 3"], hit: Tensor, samples: int
) -> tuple[Float[Tensor, "n h w"], Float[Tensor, "n h w 3"]]:
    """Depth and normals of the first fragment, averaged over the samples that have one."""
    first = hit[..., :1].to(normals)
    depth = _average(torch.cat([fragments.zbuf[..., :1] * first, first], dim=-1), samples)
    spread = normals.new_zeros((*hit.shape, 3)).masked_scatter(hit[..., None], normals)
    normal_map = torch.nn.functional.normalize(_average(spread[..., 0, :], samples), dim=-1)
    return depth[..., 0] / depth[..., 1].clamp(min=1e-12), normal_map


def _average(image: Float[Tensor, "n h w c"], samples: int) -> Float[Tensor, "n _ _ c"]:
    """Means over squares of `samples` x `samples` pixels, channels last."""
    return average(image.movedim(-1, 0), samples).movedim(0, -1)
