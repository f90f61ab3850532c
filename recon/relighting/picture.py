"""One frame of any size, in bands of rows, so that memory does not grow with it."""

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from recon.camera import Cameras
from recon.model.model import Model, SurfaceMesh
from recon.relighting.lights import Light
from recon.render.intersect import pixel_rays
from recon.render.renderer import Rendering, render

BAND = 1 << 20
"""Samples that are rendered at once."""


class Studio:
    """An object in a light, before what is behind it.

    `backdrop`: "black"; "environment", what the light shows there; or "run", what the run has learned of it.
    """

    def __init__(self, model: Model, mesh: SurfaceMesh, light: Light, backdrop: str) -> None:
        self._model, self._mesh, self._light, self._backdrop = model, mesh, light, backdrop

    def picture(self, camera: Cameras, samples: int | None = None) -> Float32[np.ndarray, "h w 4"]:
        """What one camera sees: linear radiance relative to the model's scale, and alpha.

        Args:
            camera: a batch of one, in the unit frame.
            samples: along a side of a pixel; None: as many as in training.
        """
        samples = samples or self._model.config.render.samples
        rows = max(1, BAND // (camera.width * samples**2))
        bands = [
            self._band(camera.cropped(torch.tensor([[top, 0]]), min(rows, camera.height - top), camera.width), samples)
            for top in range(0, camera.height, rows)
        ]
        return torch.cat(bands).cpu().numpy()

    @torch.no_grad()
    def _band(self, camera: Cameras, samples: int) -> Float[Tensor, "h w 4"]:
        camera, reflectance = camera.to(self._model.device), self._model.reflectance
        rendered = render(
            self._mesh.vertices,
            self._mesh.faces,
            camera,
            albedo=self._mesh.attributes,
            shader=reflectance.shade if self._light.lighting is None else reflectance.reflect,
            samples=samples,
            antialias=self._model.config.render.antialias,
            lighting=self._light.lighting,
            background=self._environment(camera) if self._backdrop == "environment" else None,
        )
        radiance, alpha = self._behind(rendered, camera)
        return torch.cat([radiance, alpha[..., None]], dim=3)[0]

    def _behind(self, rendered: Rendering, camera: Cameras) -> tuple[Float[Tensor, "1 h w 3"], Float[Tensor, "1 h w"]]:
        if self._backdrop == "run":
            rendered = self._model.background.composite(rendered, camera)
        radiance = self._light.intensity * rendered.radiance
        return radiance, rendered.alpha if self._backdrop == "black" else torch.ones_like(rendered.alpha)

    def _environment(self, camera: Cameras) -> Float[Tensor, "1 h w 3"]:
        """What the camera sees of the environment, at the centres of pixels."""
        assert self._light.environment is not None
        pixels = torch.arange(camera.height * camera.width, device=self._model.device)
        rays = pixel_rays(camera, pixels).double().cpu().numpy() @ self._model.world_from_unit[:3, :3].T
        seen = self._light.environment.seen(rays / np.linalg.norm(rays, axis=1, keepdims=True))
        behind = torch.from_numpy(seen * np.float32(self._light.gain)).to(self._mesh.vertices)
        return behind.view(1, camera.height, camera.width, 3)
