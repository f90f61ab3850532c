"""The renderer of the reference work: PyTorch3D's soft rasteriser (`render.backend: pytorch3d`).

Liu et al. 2019, "Soft Rasterizer: A Differentiable Renderer for Image-based 3D Reasoning".

It needs PyTorch3D, whose own project has no wheel for current Python: `make pytorch3d` installs another's build beside
recon, and `workflow/envs/recon.yaml` has conda-forge's.
"""

import dataclasses
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
"""Width of the soft edges of a silhouette beside hard colours, in squared normalised device coordinates (Liu et al.
2019, equation 1), as the reference work has it: half a pixel of 100."""

EDGE = 1 / 8
"""Width of the soft edges of colours, the square root of sigma, in samples. Wider ones let light through between faces,
and carry a near face's colour over the far one beside it: with 1/2 coverage is 0.03 from recon's own."""

GAMMA = 1e-4
"""Sharpness of the blending over depth (Liu et al. 2019, equation 3)."""

REACH = 9.21024
"""Squared distance at which a soft edge has fallen to 1e-4, in sigmas: log(1 / 1e-4 - 1)."""

FACES_PER_PIXEL = 16
"""Nearest faces that are blended in a pixel with soft edges; PyTorch3D drops the others."""

HARD_FACES_PER_PIXEL = 4
"""Likewise with hard edges, as the reference work has it."""

SILHOUETTE_FACES_PER_PIXEL = 100
"""Likewise for the soft alpha beside hard colours, as the reference work has it."""

COVERED = -1.0
"""Squared distance, in normalised device coordinates, to the outline of a face that fills the pixel."""


def require_pytorch3d() -> None:
    """Raise `ReconError` where PyTorch3D is not installed."""
    if importlib.util.find_spec("pytorch3d") is None:
        raise ReconError(
            "key 'render.backend': pytorch3d is not installed; `make pytorch3d` in recon's checkout makes "
            ".venv/pytorch3d, whose recon has it, as has `snakemake --sdm conda`; or leave the key at 'torch'"
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
    silhouette: bool = False,
) -> Rendering:
    """As `recon.render.renderer.render`, with soft edges and colours of the nearest `FACES_PER_PIXEL` faces blended.

    Without `antialias` the edges are hard: blur 0 and `HARD_FACES_PER_PIXEL` faces, as the reference work renders its
    colours. With `silhouette` alpha is soft all the same, of `SILHOUETTE_FACES_PER_PIXEL` faces, as the reference work
    has it for its silhouette loss. Normals are always interpolated, and faces seen from inside are not left out.

    Raises:
        ReconError: PyTorch3D is not installed.
    """
    require_pytorch3d()
    fine = cameras.scaled(samples)
    sigma = (EDGE * 2 / min(fine.height, fine.width)) ** 2
    if antialias:
        fragments = rasterize(vertices, faces, fine, REACH * sigma, FACES_PER_PIXEL)
    else:
        fragments = without_edges(rasterize(vertices, faces, fine, 0.0, HARD_FACES_PER_PIXEL))
    hit = fragments.pix_to_face >= 0
    points, normals, attributes = _surface_at(vertices, faces, albedo, fragments, hit)
    view = hit.nonzero()[:, 0]
    shaded = shader(attributes, *illuminate(points, normals, fine, view))
    colors = vertices.new_zeros((*hit.shape, 3)).masked_scatter(hit[..., None], shaded)
    image = _average(blend(colors, fragments, sigma), samples)
    radiance, alpha = image[..., :3], image[..., 3]
    if silhouette and not antialias:
        soft = rasterize(vertices, faces, fine, REACH * SIGMA, SILHOUETTE_FACES_PER_PIXEL)
        alpha = _average(soft_alpha(soft)[..., None], samples)[..., 0]
    if background is not None:
        radiance = radiance + (1 - alpha)[..., None] * background
    depth, normal_map = _nearest(fragments, normals, hit, samples)
    return Rendering(radiance, alpha, depth, normal_map)


def rasterize(
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    cameras: Cameras,
    blur_radius: float,
    faces_per_pixel: int,
) -> Any:
    """PyTorch3D's fragments of every view, nearest first; pix_to_face counts on from view to view.

    Args:
        blur_radius: squared distance in normalised device coordinates up to which a pixel beside a face is its too.
        faces_per_pixel: fragments of a pixel at most.
    """
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
            faces_per_pixel=faces_per_pixel,
            bin_size=0,  # its bins overflow silently where faces are smaller than pixels
            perspective_correct=True,
            clip_barycentric_coords=True,
        )
    )


def without_edges(fragments: Any) -> Any:
    """The same fragments, each of which fills its pixel.

    PyTorch3D's blending takes the distance to a face's outline for softness, also where nothing was rasterised beyond
    it: a pixel within a face, but near one of its sides, would be half transparent.
    """
    return dataclasses.replace(fragments, dists=torch.full_like(fragments.dists, COVERED))


def blend(colors: Float[Tensor, "n h w k 3"], fragments: Any, sigma: float) -> Float[Tensor, "n h w 4"]:
    """Radiance before black, and alpha, with edges of width `sigma` in squared normalised device coordinates.

    PyTorch3D's colour is a mean over the faces of a pixel, as bright where they fill a thousandth of it; times alpha it
    is what they send.
    """
    from pytorch3d.renderer.blending import BlendParams, softmax_rgb_blend

    params = BlendParams(sigma=sigma, gamma=GAMMA, background_color=(0.0, 0.0, 0.0))
    far = fragments.zbuf.detach().amax(dim=(1, 2, 3)) + 1
    image = softmax_rgb_blend(colors, fragments, params, znear=0.01, zfar=far)
    return torch.cat([image[..., :3] * image[..., 3:], image[..., 3:]], dim=-1)


def soft_alpha(fragments: Any) -> Float[Tensor, "n h w"]:
    """Coverage by soft edges: 1 minus the product of what the faces of a pixel let through."""
    from pytorch3d.renderer.blending import BlendParams, sigmoid_alpha_blend

    unseen = fragments.zbuf.new_zeros((*fragments.zbuf.shape, 3))
    return sigmoid_alpha_blend(unseen, fragments, BlendParams(sigma=SIGMA))[..., 3]


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
