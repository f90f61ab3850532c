"""The whole of what is learned: the flow, the reflectance, what is behind the object, and the light."""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from recon.background.create import create_background
from recon.camera import Cameras
from recon.config import RunConfig
from recon.model.light import Light
from recon.model.poses import Poses, moved_against
from recon.model.reflectance import ConstantReflectance, MicrofacetReflectance, VaryingReflectance
from recon.render import pytorch3d
from recon.render.lighting import Lighting, shadowed_flashes
from recon.render.normals import vertex_normals
from recon.render.renderer import Rendering, Shader, render
from recon.render.shade import Angles
from recon.surface.flow import Flow
from recon.surface.grid import VelocityGrid
from recon.surface.icosphere import icosphere
from recon.surface.velocity import VelocityNetwork

CHUNK = 8192
"""Points whose Jacobian is computed at once."""


class SurfaceMesh(NamedTuple):
    """The sphere carried into place.

    Attributes:
        vertices: in the unit frame.
        faces: outward counter-clockwise.
        attributes: of the reflectance at the vertices, as its shader takes them.
    """

    vertices: Float[Tensor, "v 3"]
    faces: Int[Tensor, "f 3"]
    attributes: Float[Tensor, "v k"]


class Model(nn.Module):
    """A surface with its reflectance, and the frame and radiance scale that they are in.

    Attributes:
        world_from_unit: similarity from the unit frame to the source's frame.
        radiance_scale: the source's radiance that a rendered 1 stands for.
    """

    def __init__(
        self,
        config: RunConfig,
        world_from_unit: Float64[np.ndarray, "4 4"],
        radiance_scale: float,
        brightness: float = 1.0,
        views: int = 0,
    ) -> None:
        """`brightness`: albedo to begin with. `views`: how many are fitted, each of which may have a strength."""
        super().__init__()
        self.config = config
        self.world_from_unit = world_from_unit
        self.radiance_scale = radiance_scale
        represented = VelocityGrid if config.surface.representation == "grid" else VelocityNetwork
        self.velocity: VelocityGrid | VelocityNetwork = represented(config.surface)
        self.reflectance = _reflectance(config, brightness)
        self.background = create_background(config, brightness)
        self.light = Light(config.light, views)
        self.poses = Poses(config.cameras, views)

    @property
    def export_level(self) -> int:
        """Icosphere level of the meshes that are written and validated: the finest trained."""
        return max(self.config.train.levels)

    def flow(self) -> Flow:
        """The flow along the velocity field as it is now."""
        return self.velocity.flow()

    def mesh(self, level: int) -> SurfaceMesh:
        """The icosphere of `level` (10 * 4^level + 2 vertices) carried by the flow, with gradient."""
        points, faces = icosphere(level, self.device)
        return SurfaceMesh(self.flow().trajectory(points)[-1], faces, self.reflectance.attributes(points))

    def albedo(self, level: int) -> Float[Tensor, "v 3"]:
        """The diffuse albedo (times flash intensity / pi) at the vertices of that level's mesh."""
        return self.reflectance.albedo(icosphere(level, self.device).vertices)

    @torch.no_grad()
    def jacobian_determinants(self, level: int) -> Float[Tensor, " v"]:
        """Determinant of the flow's derivative at each vertex of the icosphere of that level."""
        points, flow = icosphere(level, self.device).vertices, self.flow()
        return torch.cat([flow.jacobian_determinants(part) for part in points.split(CHUNK)])

    def render(
        self,
        mesh: SurfaceMesh,
        cameras: Cameras,
        given: Float[Tensor, "n h w 3"] | None = None,
        views: Int[Tensor, " n"] | None = None,
        corrections: Float[Tensor, "n 4 4"] | None = None,
    ) -> Rendering:
        """Images of the mesh in front of its background; without gradient where that is a field.

        Args:
            cameras: in the unit frame.
            given: linear radiance that the cameras see without the object, for `background: given`.
            views: which training views these are, for the strength of their light; None: others, with strength 1.
            corrections: as in `render_surface`.

        Returns:
            Linear radiance relative to `radiance_scale`, alpha, depth in the unit frame, normals.
        """
        rendering = self.render_surface(mesh, cameras, corrections)
        exposure, cameras = self.light.exposure(cameras, views), self.light.placed(cameras)
        if exposure is None:
            return self.background.composite(rendering, cameras, given)
        given = None if given is None else given / exposure  # it is a photograph, and exposed
        return exposed(self.background.composite(rendering, cameras, given), exposure)

    def render_surface(
        self, mesh: SurfaceMesh, cameras: Cameras, corrections: Float[Tensor, "n 4 4"] | None = None
    ) -> Rendering:
        """Images of the mesh before black, as the light is, before strengths and vignetting.

        `corrections`: of these cameras' poses, which have them already, where pictures are to have a gradient to them.
        """
        if corrections is not None:
            views = [
                self.render_surface(mesh._replace(vertices=vertices), cameras[[place]])
                for place, vertices in enumerate(moved_against(corrections, mesh.vertices))
            ]
            return together(views)
        cameras = self.light.placed(cameras)
        if not self.config.light.shadows or cameras.lights is None:
            return self._rendered(mesh, cameras)
        flashes = shadowed_flashes(mesh.vertices, mesh.faces, cameras)
        return together([self._rendered(mesh, cameras[[place]], flash) for place, flash in enumerate(flashes)])

    def _rendered(self, mesh: SurfaceMesh, cameras: Cameras, lighting: Lighting | None = None) -> Rendering:
        render_mesh = partial(render, lighting=lighting)
        if self.config.render.backend == "pytorch3d":
            render_mesh = partial(pytorch3d.render, silhouette=self.config.loss.silhouette > 0)
        attributes, shader = self._lit(mesh)
        return render_mesh(
            mesh.vertices,
            mesh.faces,
            cameras,
            albedo=attributes,
            shader=shader,
            samples=self.config.render.samples,
            antialias=self.config.render.antialias,
        )

    def _lit(self, mesh: SurfaceMesh) -> tuple[Float[Tensor, "v a"], Shader]:
        """Attributes and the shader that takes them. Ambient irradiance is an attribute of the vertices: it varies with
        the normal as slowly as harmonics of order 2 do, so that interpolating it is as good as interpolating them."""
        if self.light.ambient is None:
            return mesh.attributes, self.reflectance.shade
        irradiance = self.light.irradiance(vertex_normals(mesh.vertices, mesh.faces))
        return torch.cat([mesh.attributes, irradiance], dim=1), self._shade_with_ambient

    def _shade_with_ambient(
        self,
        attributes: Float[Tensor, "p k"],
        irradiance: Float[Tensor, " p"],
        cosine: Float[Tensor, " p"],
        angles: Angles | None = None,
    ) -> Float[Tensor, "p 3"]:
        own, ambient = attributes[:, :-3], attributes[:, -3:]
        parameters = self.reflectance.parameters_of(own)
        flash = self.reflectance.reflect(parameters, irradiance, cosine, angles)
        return flash + parameters[:, :3] * ambient

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device


def together(views: list[Rendering]) -> Rendering:
    """The renderings of some views before black as one."""
    return Rendering(*(torch.cat(planes) for planes in zip(*(view[:4] for view in views), strict=True)))


def exposed(rendering: Rendering, exposure: Float[Tensor, "..."]) -> Rendering:
    """The rendering with its radiance, and that of surface and background alone, times what broadcasts to it."""
    surface, background = (
        None if part is None else part * exposure for part in (rendering.surface, rendering.background)
    )
    return rendering._replace(radiance=rendering.radiance * exposure, surface=surface, background=background)


def _reflectance(config: RunConfig, brightness: float) -> ConstantReflectance:
    match config.reflectance:
        case "constant":
            return ConstantReflectance(brightness)
        case "varying":
            return VaryingReflectance(brightness, config)
        case "microfacet":
            return MicrofacetReflectance(brightness, config)
