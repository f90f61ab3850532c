"""How a radiance field is learned together with a surface: what happens when, and at which price.

    first `field.warm_up` of the run    no surface: the field, with its continuation into the unit sphere, learns
                                        the images alone
    then, as parts of the surface's own schedule,
        0, 15, 30, 45%                  pseudo-masks: which pixels show the object
        until 85%                       they guide the surface's alpha, less and less
        from 45%                        what the field shows may depend on the direction
        from 50%                        the field has to explain a pixel better for the surface to be redundant there

A surface that starts as the unit sphere hides what stands behind it, and what hides something wrongly has no gradient
that says so. A volume starts transparent and hides nothing; what it then shows inside the sphere is the first
pseudo-mask. Soon the field outside is better, and what it leaves unexplained is the next. docs/background.md has the
reasons and what each was worth.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recon.background.background import Background
from recon.background.field import BackgroundField, OuterSegments
from recon.background.losses import haze_loss, opacity_loss, pseudo_mask_loss, ray_distortion_loss, redundant_alpha_loss
from recon.background.pseudo_masks import PseudoMasks
from recon.background.rays import Rays, joined, rays_from_between, rays_through
from recon.background.visual_hull import ALIKE, shrunk
from recon.background.volume import RaySegment
from recon.camera import Cameras
from recon.config import LossConfig

UPDATES = (0.0, 0.15, 0.3, 0.45)
"""Fractions of the surface's schedule at which the pseudo-masks are made anew. Each field is better than the one
before; after half of the schedule outlines are settled, and a mask would only repeat them."""

FIRST_LOOK = 300_000
"""Pixels of all views together that the look at the volume is at: some seconds of one core. It is rough anyway."""

COARSEST = 64
"""Least pixels along a side for it: however many the views, ears are some pixels wide."""

REFRESH = 100
"""Iterations between updates of the occupancy grid, and of the pixels where something stands before the sphere: a look
at the whole field takes as long as some iterations."""

GUIDED = 0.85
"""Fraction of the surface's schedule at which pseudo-masks have faded out: the last part is the images' alone. Fading
earlier leaves ears short before a wall of their brightness."""

STRICTER = 0.5
"""Fraction from which the field has to explain a pixel better and better for the surface to be redundant there: once no
membrane is left, a price would only hold back outlines that are right."""


BETWEEN = 0.2
"""Rays from between cameras, as a share of those past the object."""


class FieldSamples(NamedTuple):
    """The field along the rays of an iteration.

    Attributes:
        pixel: some pixels of the batch, as flat indices into (b, h, w).
        rays: through them.
        weights: how many pixels each of them stands for.
        outer: along them, outside the unit sphere.
        between: before the sphere, from places between cameras.
    """

    pixel: Int[Tensor, " r"]
    rays: Rays
    weights: Float[Tensor, " r"]
    outer: OuterSegments
    between: RaySegment


class Curriculum:
    """The training of a field beside a surface: all that is neither weight of the model nor of the optimiser.

    Attributes:
        pseudo_masks: of the training views.
    """

    def __init__(self, field: BackgroundField, weights: LossConfig, cameras: Cameras) -> None:
        self._field = field
        self._weights = weights
        self._warm_up = field.config.warm_up
        self._centers = cameras.centers
        masks = PseudoMasks(len(cameras), cameras.height, cameras.width)
        self.pseudo_masks = masks.to(cameras.intrinsics.device)

    @classmethod
    def of(cls, background: Background, weights: LossConfig, cameras: Cameras) -> "Curriculum | None":
        """The curriculum of the training views of `cameras`; None where there is nothing but the object to see."""
        if not isinstance(background, BackgroundField) or background.empty:
            return None
        return cls(background, weights, cameras)

    def warming_up(self, fraction: float) -> bool:
        """Whether there is no surface yet at `fraction` of the run."""
        return fraction < self._warm_up

    def surface_fraction(self, fraction: float) -> float:
        """How far the surface is: its schedule starts after the warm-up."""
        return max(fraction - self._warm_up, 0.0) / (1 - self._warm_up)

    def is_due(self, iteration: int, fraction: float) -> bool:
        """Whether it is time for an `update`."""
        return self.look_due(fraction) or (iteration > 0 and iteration % REFRESH == 0)

    def update(
        self,
        cameras: Cameras,
        images: Float[Tensor, "n h w 3"],
        known: Float[Tensor, "n h w"] | None,
        fraction: float,
    ) -> None:
        """Renew what follows from the field: occupancy grid, and after the warm-up pseudo-masks and foreground.

        `images` are all training views, `known` is 0 in pixels that no photograph shows; None: all are.
        """
        masks = self.pseudo_masks
        self._field.prune()
        if self.look_due(fraction):
            # A look is at every pixel of every view: of large ones, at fewer.
            if masks.updates == 0:
                side = max(round((FIRST_LOOK / len(cameras)) ** 0.5), COARSEST)
                masks.update_from_volume(self._field, shrunk(cameras, images, finest=side)[0])
            else:
                masks.update_from_field(self._field, *shrunk(cameras, images, known))
            # From the last update on the surface covers what a wall could be made to show.
            self._field.view_dependent.fill_(int(masks.updates) == len(UPDATES))
        if not self.warming_up(fraction):
            masks.update_foreground(self._field, cameras)

    def look_due(self, fraction: float) -> bool:
        """Whether it is time to make the pseudo-masks anew; never once they guide nothing, as where minutes are few."""
        surface = self.surface_fraction(fraction)
        due = sum(surface >= at for at in UPDATES) if surface < GUIDED else 0
        return not self.warming_up(fraction) and int(self.pseudo_masks.updates) < due

    def of_views(self, views: Int[Tensor, " b"]) -> tuple[Float[Tensor, "b h w 2"], Bool[Tensor, "b h w"]]:
        """Pseudo-masks (alpha, and how sure it is) and foreground of some training views."""
        return self.pseudo_masks.masks[views].float() / 255, self.pseudo_masks.foreground[views]

    def warm_up_terms(
        self,
        cameras: Cameras,
        images: Float[Tensor, "b h w 3"],
        known: Float[Tensor, "b h w"] | None,
        generator: torch.Generator,
        exposure: Float[Tensor, "..."] | None = None,
    ) -> dict[str, Tensor]:
        """The loss terms of the field alone, on random pixels of whole views; `known` is 0 where none is shown, and
        `exposure` broadcasts to what `images` multiply the radiance by; None: one."""
        count = images[..., 0].numel()
        pixel = torch.randint(count, (self._field.config.rays,), generator=generator).to(images.device)
        rays = rays_through(cameras, pixel)
        jitter = torch.rand(len(pixel), 1, generator=generator).to(rays.enter)
        outer, volume = self._field.all_segments(rays, jitter)
        prediction = outer.with_surface(volume.radiance, 1 - volume.transmittance)
        if exposure is not None:
            prediction = prediction * exposure.expand_as(images).flatten(0, 2).index_select(0, pixel)
        target = images.flatten(0, 2).index_select(0, pixel)
        error = (prediction - target).abs()
        if known is not None:
            error = error * known.flatten().index_select(0, pixel)[:, None]
        terms = {"image": error.mean()}
        if self._weights.field_opacity:
            terms["field_opacity"] = opacity_loss(rays, outer, volume)
        if self._weights.field_distortion:
            terms["field_distortion"] = ray_distortion_loss([outer.front, volume, outer.behind])
        if self._weights.smoothness:
            terms["smoothness"] = self._field.total_variation(generator)
        return terms

    def samples(
        self,
        cameras: Cameras,
        pixel: Int[Tensor, " r"],
        weights: Float[Tensor, "b h w"],
        alpha: Float[Tensor, "b h w"],
        generator: torch.Generator,
    ) -> FieldSamples:
        """The field in some pixels, given as flat indices into (b, h, w); not behind a surface that covers them.

        `weights`: how many pixels each pixel stands for (`recon.background.composite.chosen_pixels`).
        """
        rays = rays_through(cameras, pixel)
        count = round(BETWEEN * self._field.config.rays) if self._weights.field_opacity else 0
        every = joined(rays, rays_from_between(self._centers, count, generator))
        jitter = torch.rand(len(every.enter), 1, generator=generator).to(alpha)
        covered = torch.ones_like(every.enter, dtype=torch.bool)
        covered[: len(pixel)] = alpha.flatten().index_select(0, pixel) == 1
        outer, between = self._field.outer_segments(every, jitter, covered).split(len(pixel))
        return FieldSamples(pixel, rays, weights.flatten().index_select(0, pixel), outer, between.front)

    def terms(
        self,
        alpha: Float[Tensor, "b h w"],
        images: Float[Tensor, "b h w 3"],
        masks: Float[Tensor, "b h w 2"],
        samples: FieldSamples,
        fraction: float,
        generator: torch.Generator,
        known: Float[Tensor, "b h w"] | None = None,
    ) -> dict[str, Tensor]:
        """The loss terms that a field adds at `fraction` of the surface's schedule.

        Args:
            alpha: of the surface.
            masks: pseudo-masks of the views, as `of_views` gives them.
            samples: as `samples` gives them.
            known: 0 in pixels that no photograph shows; None: all are.
        """
        weights, terms, outer = self._weights, dict[str, Tensor](), samples.outer
        if weights.redundant_alpha:
            alike = ALIKE * min(1.0, 1 + STRICTER - fraction)
            terms["redundant_alpha"] = redundant_alpha_loss(
                alpha, outer, samples.pixel, images, alike, known, samples.weights
            )
        if weights.pseudo_mask and fraction < GUIDED:
            terms["pseudo_mask"] = pseudo_mask_weight(fraction) * pseudo_mask_loss(alpha, masks)
        if weights.field_opacity:
            terms["field_opacity"] = opacity_loss(samples.rays, outer) + haze_loss(samples.between)
        if weights.field_distortion:
            terms["field_distortion"] = ray_distortion_loss([outer.front, outer.behind])
        if weights.smoothness:
            terms["smoothness"] = self._field.total_variation(generator)
        return terms

    def state_dict(self) -> dict[str, Any]:
        """What a state keeps of it: the masks. The field is part of the model."""
        return self.pseudo_masks.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.pseudo_masks.load_state_dict(state)


def pseudo_mask_weight(fraction: float) -> float:
    """One to begin with, a half from a fifth of the surface's schedule on, and nothing from `GUIDED` on."""
    return max(1 - 2.5 * fraction, min(0.5, (GUIDED - fraction) / 0.8), 0.0)
