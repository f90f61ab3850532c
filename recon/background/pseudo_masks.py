"""Masks that nobody gave: which pixels show the object, as far as the field can tell."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from recon.background.contraction import contract
from recon.background.field import BackgroundField, no_jitter
from recon.background.rays import CHUNK, front_t_edges, rays_through
from recon.background.visual_hull import DARK, pseudo_masks_from_field
from recon.background.volume import cell_of
from recon.camera import Cameras

UNSURE = 0.25
"""Least weight of a pseudo-mask: where all is dark, the object is less likely than not."""

STRIDE, LOOKS = 4, 32
"""Pixels between the rays that look for something in front of the sphere, and, of large views, rays along a side: cells
of the field are as large as some pixels."""


class PseudoMasks(nn.Module):
    """Per training view: the object's likely alpha, and where something may stand before it.

    Attributes:
        masks: alpha and how sure it is, in 255ths, (n, h, w, 2); meaningful after the first of the `updates`.
        updates: how often the object has been looked for.
        foreground: pixels where the field may be sampled although the surface covers them, (n, h, w).
    """

    def __init__(self, count: int, height: int, width: int) -> None:
        super().__init__()
        self.masks = nn.Buffer(torch.zeros(count, height, width, 2, dtype=torch.uint8))
        self.foreground = nn.Buffer(torch.ones(count, height, width, dtype=torch.bool))
        self.updates = nn.Buffer(torch.tensor(0))

    @torch.no_grad()
    def update_foreground(self, background: BackgroundField, cameras: Cameras) -> None:
        """Mark the pixels whose ray may meet something before it meets the sphere."""
        height, width, device = cameras.height, cameras.width, self.foreground.device
        stride = min(max(STRIDE, max(height, width) // LOOKS), height, width)
        rows = torch.arange(stride // 2, height, stride, device=device)
        columns = torch.arange(stride // 2, width, stride, device=device)
        pixels = (rows[:, None] * width + columns).flatten()
        for view in range(len(cameras)):
            rays = rays_through(cameras[[view]], pixels)
            t_edges = front_t_edges(rays, background.config.samples // 2, no_jitter(rays))
            points = rays.origins[:, None] + t_edges[..., None] * rays.directions[:, None]
            met = cell_of(contract(points.flatten(0, 1)), background.occupancy).view(t_edges.shape).any(1)
            near = max_pool2d(met.float().view(1, 1, len(rows), len(columns)), 3, stride=1, padding=1)
            self.foreground[view] = interpolate(near, size=(height, width))[0, 0] > 0

    @torch.no_grad()
    def update_from_volume(self, background: BackgroundField, cameras: Cameras) -> None:
        """Which pixels show the object: those that the volume in the unit sphere makes what they are.

        The views may be smaller than the masks.
        """
        pixels = torch.arange(cameras.height * cameras.width, device=self.masks.device)
        for view in range(len(cameras)):
            parts = [inner_share(background, cameras[[view]], part) for part in pixels.split(CHUNK)]
            self._keep(view, torch.cat(parts).view(cameras.height, cameras.width, 2))
        self.updates.add_(1)

    @torch.no_grad()
    def update_from_field(
        self,
        background: BackgroundField,
        cameras: Cameras,
        images: Float[Tensor, "n h w 3"],
        known: Float[Tensor, "n h w"] | None = None,
    ) -> None:
        """Which pixels show the object: those that the field leaves unexplained.

        The views may be smaller than the masks.
        """
        for view, mask in enumerate(pseudo_masks_from_field(background, cameras, images, known)):
            self._keep(view, mask)
        self.updates.add_(1)

    def _keep(self, view: int, mask: Float[Tensor, "r c 2"]) -> None:
        whole = interpolate(mask.permute(2, 0, 1)[None], size=self.masks.shape[1:3])[0].permute(1, 2, 0)
        self.masks[view] = (whole * 255).round().to(torch.uint8)


def inner_share(background: BackgroundField, cameras: Cameras, pixels: Tensor) -> Float[Tensor, "r 2"]:
    """How much the unit sphere's inside makes pixels what they are, 0 to 1, mostly either, and how sure that is.

    It adds light or hides light. Opacity alone would not tell: black vapour before black does neither, so
    nothing removes it.
    """
    rays = rays_through(cameras, pixels)
    (front, behind), volume = background.all_segments(rays, no_jitter(rays))
    beyond = behind.radiance.sum(1)
    outer = volume.transmittance * beyond
    inner = volume.radiance.sum(1) + beyond - outer
    share = inner / (inner + outer + DARK)
    sure = (front.transmittance * (inner + outer) / (inner + outer + 3 * DARK)).clamp(min=UNSURE)
    return torch.stack([((share - 0.4) * 2.5).clamp(0, 1), sure], dim=1)
