"""What is learned of the light, and of how each view was exposed: those parts that the configuration asks for.

    radiance of a view = strength of the view * vignetting at the pixel * (surface + what is behind it)
    surface            = reflectance lit by the flash at its offset + diffuse albedo * ambient irradiance

Everything starts as what is assumed without it: flashes of one strength at the cameras' centres, nothing else that
shines, and a lens that keeps its brightness to the border. docs/light.md says what photographs tell of it and what not.
"""

import math
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from recon.camera import Cameras
from recon.config import LightConfig

HARMONICS = 9
"""Spherical harmonics of orders 0 to 2: all that a diffuse surface shows of light from afar, to about 1%."""

C1, C2, C3, C4, C5 = 0.429043, 0.511664, 0.743125, 0.886227, 0.247708
"""What folding with the cosine makes of the harmonics (Ramamoorthi and Hanrahan 2001, "An Efficient Representation for
Irradiance Environment Maps", equation 12)."""

POWERS = 3
"""Coefficients of vignetting: of the second, fourth and sixth power of the radius."""

DARKEST = 0.1
"""Least share of the light that vignetting leaves."""


class Light(nn.Module):
    """Strengths, offset of the flash, ambient light and vignetting; each None where it is not learned.

    Attributes:
        log_strength: of each training view and channel, logarithms; only differences from their mean over the views
            count, for the albedo takes up what all views share.
        offset: from the camera's centre to its flash, in the camera's frame (x right, y down, z forward) and in units
            of the unit frame: the same for all views.
        ambient: radiance from afar in spherical harmonics, in the unit frame, relative to `flash`. The order is
            (0,0), (1,-1), (1,0), (1,1), (2,-2), (2,-1), (2,0), (2,1), (2,2).
        vignetting: coefficients of r^2, r^4 and r^6, r the distance from the optical axis relative to `radius`.
        flash: irradiance of a flash of unit intensity at a typical distance, so that ambient light starts with steps
            of a sensible size.
        radius: tangent of the angle between the optical axis and the pixel of a training view that is farthest off.
    """

    def __init__(self, config: LightConfig, views: int = 0) -> None:
        super().__init__()
        self.log_strength = nn.Parameter(torch.zeros(views, 3)) if config.strength else None
        self.offset = nn.Parameter(torch.zeros(3)) if config.offset else None
        self.ambient = nn.Parameter(torch.zeros(HARMONICS, 3)) if config.ambient else None
        self.vignetting = nn.Parameter(torch.zeros(POWERS)) if config.vignetting else None
        self.flash = nn.Buffer(torch.ones(())) if config.ambient else None
        self.radius = nn.Buffer(torch.ones(())) if config.vignetting else None

    @property
    def learned(self) -> bool:
        """Whether any part of it is learned."""
        return next(self.parameters(), None) is not None

    def adapt(self, cameras: Cameras, distance: float) -> None:
        """Take scales from the training views: `distance` is a typical one from light to surface, 1 for distant lights,
        whose irradiance does not fall."""
        if self.flash is not None:
            self.flash.fill_(1 / distance**2)
        if self.radius is not None:
            self.radius.fill_(_squared_radius(cameras).max().sqrt().item())

    def placed(self, cameras: Cameras) -> Cameras:
        """The cameras with their flashes where they are; with gradient to the offset."""
        if self.offset is None:
            return cameras
        flashes = cameras.centers + cameras.camera_to_world[:, :3, :3] @ self.offset
        return replace(cameras, lights=torch.cat([flashes, torch.ones_like(flashes[:, :1])], dim=1))

    def irradiance(self, normals: Float[Tensor, "v 3"]) -> Float[Tensor, "v 3"]:
        """Of the ambient light on surfaces with these normals, unit, in the unit frame; relative to a flash of unit
        intensity at a distance of one, as `recon.render.shade` has it."""
        assert self.ambient is not None and self.flash is not None
        return self.flash * ambient_irradiance(self.ambient, normals)

    def strengths(self) -> Float[Tensor, "n 3"] | None:
        """Of the training views, relative to their geometric mean; None where they are not learned."""
        if self.log_strength is None:
            return None
        return (self.log_strength - self.log_strength.mean(0)).exp()

    def exposure(
        self, cameras: Cameras, views: Int[Tensor, " n"] | None = None
    ) -> Float[Tensor, "n h w 3"] | Float[Tensor, "n 1 1 3"] | None:
        """What the radiance of every pixel is multiplied by; None for ones.

        Args:
            cameras: of whole views, or of windows of them.
            views: which training views they are; None: others, whose strength is not known and taken to be 1.
        """
        strengths = None if views is None else self.strengths()
        exposure = None if strengths is None or views is None else strengths[views][:, None, None]
        if self.vignetting is None:
            return exposure
        falloff = self.vignette(cameras)[..., None].expand(-1, -1, -1, 3)
        return falloff if exposure is None else falloff * exposure

    def vignette(self, cameras: Cameras) -> Float[Tensor, "n h w"]:
        """Share of the light that reaches each pixel, relative to the optical axis: an even polynomial of the distance
        from it, which stays with the lens where a picture is cropped."""
        assert self.vignetting is not None and self.radius is not None
        squared = _squared_radius(cameras) / self.radius**2
        powers = torch.stack([squared, squared**2, squared**3], dim=-1)
        return (1 + powers @ self.vignetting).clamp(min=DARKEST)

    def prior(self) -> Float[Tensor, ""]:
        """How far the light is from what is assumed without it: mean squares, added up."""
        strengths = self.strengths()
        parts = [] if strengths is None else [strengths.log().square().mean()]
        parts += [] if self.offset is None else [self.offset.square().sum()]
        parts += [part.square().mean() for part in (self.ambient, self.vignetting) if part is not None]
        return torch.stack(parts).sum()

    @torch.no_grad()
    def found(self, unit: float) -> dict[str, object]:
        """What was learned, as plain numbers with names that a stranger understands.

        Args:
            unit: length in the source's frame that a unit of the unit frame stands for.
        """
        found: dict[str, object] = {}
        strengths = self.strengths()
        if strengths is not None:
            found["strengths_of_views"] = strengths.tolist()
        if self.offset is not None:
            found["flash_offset_in_camera_frame"] = (unit * self.offset).tolist()
        if self.ambient is not None:
            found["ambient_harmonics_relative_to_flash"] = self.ambient.tolist()
        if self.vignetting is not None and self.radius is not None:
            found["vignetting_of_r2_r4_r6"] = self.vignetting.tolist()
            found["vignetting_radius_degrees"] = math.degrees(math.atan(self.radius.item()))
        return found


def ambient_irradiance(harmonics: Float[Tensor, "9 3"], normals: Float[Tensor, "v 3"]) -> Float[Tensor, "v 3"]:
    """Irradiance by light from afar whose radiance has these coefficients (order: see `Light`), at unit normals.

    Ramamoorthi and Hanrahan 2001, equation 13. It is a quadratic form, and is not kept from being negative.
    """
    x, y, z = normals.unbind(1)
    basis = [
        torch.full_like(x, C4),
        *(2 * C2 * axis for axis in (y, z, x)),
        *(2 * C1 * product for product in (x * y, y * z)),
        C3 * z * z - C5,
        2 * C1 * x * z,
        C1 * (x * x - y * y),
    ]
    return torch.stack(basis, dim=1) @ harmonics


def _squared_radius(cameras: Cameras) -> Float[Tensor, "n h w"]:
    """Squared tangent of the angle between the optical axis and the ray of each pixel."""
    inverse = torch.linalg.inv(cameras.intrinsics)
    x, y = (torch.arange(size, device=inverse.device) + 0.5 for size in (cameras.width, cameras.height))
    across = inverse[:, :2, 0, None, None] * x
    down = (inverse[:, :2, 1, None] * y + inverse[:, :2, 2, None])[..., None]
    return (across + down).square().sum(1)
