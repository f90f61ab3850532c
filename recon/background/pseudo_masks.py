"""What training knows of its views beside their images, learned from the field on the way."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from recon.background.contraction import contract
from recon.background.field import Background, no_shift
from recon.background.rays import CHUNK, front_borders, rays_through
from recon.background.visual_hull import DARK, object_guide
from recon.background.volume import cell_of
from recon.camera import Cameras

UNSURE = 0.25
"""Least weight of the guide: where all is dark, the object is less likely than not."""

STRIDE = 4
"""Pixels between the rays that look for something in front of the sphere."""


class Hints(nn.Module):
    """Per training view: the object's likely coverage, and where something may stand before it.

    Attributes:
        guide: coverage and how sure it is, in 255ths, (n, h, w, 2); meaningful after the first of the `looks`.
        looks: how often the object has been looked for.
        veiled: pixels where the field is marched although the surface covers them, (n, h, w).
    """

    def __init__(self, count: int, height: int, width: int) -> None:
        super().__init__()
        self.guide = nn.Buffer(torch.zeros(count, height, width, 2, dtype=torch.uint8))
        self.veiled = nn.Buffer(torch.ones(count, height, width, dtype=torch.bool))
        self.looks = nn.Buffer(torch.tensor(0))

    @torch.no_grad()
    def find_veils(self, background: Background, cameras: Cameras) -> None:
        """Mark the pixels whose ray may meet something before it meets the sphere."""
        height, width, device = cameras.height, cameras.width, self.veiled.device
        rows = torch.arange(STRIDE // 2, height, STRIDE, device=device)
        columns = torch.arange(STRIDE // 2, width, STRIDE, device=device)
        pixels = (rows[:, None] * width + columns).flatten()
        for view in range(len(cameras)):
            rays = rays_through(cameras[[view]], pixels)
            borders = front_borders(rays, background.config.samples // 2, no_shift(rays))
            points = rays.origins[:, None] + borders[..., None] * rays.directions[:, None]
            met = cell_of(contract(points.flatten(0, 1)), background.occupied).view(borders.shape).any(1)
            near = max_pool2d(met.float().view(1, 1, len(rows), len(columns)), 3, stride=1, padding=1)
            self.veiled[view] = interpolate(near, size=(height, width))[0, 0] > 0

    @torch.no_grad()
    def guess_object(self, background: Background, cameras: Cameras) -> None:
        """Keep as guide which pixels the volume in the unit sphere makes what they are."""
        pixels = torch.arange(cameras.height * cameras.width, device=self.guide.device)
        for view in range(len(cameras)):
            parts = [inner_share(background, cameras[[view]], part) for part in pixels.split(CHUNK)]
            self._keep(view, torch.cat(parts).view(cameras.height, cameras.width, 2))
        self.looks.add_(1)

    @torch.no_grad()
    def find_object(self, background: Background, cameras: Cameras, images: Float[Tensor, "n h w 3"]) -> None:
        """Keep as guide which pixels the field leaves unexplained. The views may be smaller than the guide."""
        for view, guide in enumerate(object_guide(background, cameras, images)):
            self._keep(view, guide)
        self.looks.add_(1)

    def _keep(self, view: int, guide: Float[Tensor, "r c 2"]) -> None:
        whole = interpolate(guide.permute(2, 0, 1)[None], size=self.guide.shape[1:3])[0].permute(1, 2, 0)
        self.guide[view] = (whole * 255).round().to(torch.uint8)


def inner_share(background: Background, cameras: Cameras, pixels: Tensor) -> Float[Tensor, "r 2"]:
    """How much the unit sphere's inside makes pixels what they are, 0 to 1, mostly either, and how sure that is.

    It adds light or hides light. Opacity alone would not tell: black vapour before black does neither, so
    nothing removes it.
    """
    rays = rays_through(cameras, pixels)
    (front, behind), volume = background.with_volume(rays, no_shift(rays))
    beyond = behind.radiance.sum(1)
    outer = volume.transmittance * beyond
    inner = volume.radiance.sum(1) + beyond - outer
    share = inner / (inner + outer + DARK)
    sure = (front.transmittance * (inner + outer) / (inner + outer + 3 * DARK)).clamp(min=UNSURE)
    return torch.stack([((share - 0.4) * 2.5).clamp(0, 1), sure], dim=1)
