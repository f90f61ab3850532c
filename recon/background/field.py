"""A radiance field outside the unit sphere, and to begin with inside it too, where it stands for the object."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from recon.background.background import Background, before
from recon.background.grid import GridField
from recon.background.medium import EMPTY, activate, start_values
from recon.background.mlp import MlpField
from recon.background.rays import CHUNK, Rays, behind_t_edges, front_t_edges, inner_t_edges, rays_through
from recon.background.visible_cells import black_beside_sphere, cell_centers, visible_cells
from recon.background.volume import RaySegment, SampledField, render_segments
from recon.camera import Cameras
from recon.config import FieldConfig
from recon.render.renderer import Rendering

CELLS = 64
"""Cells along each axis of contracted space that are marked as visible and as occupied."""

EMPTIED = 0.6
"""Share of the density that cells start with below which rays skip them: what no ray emptied stays."""

VARIATION_CELLS = 8192
"""Random cells of a grid that estimate its total variation."""

VARIATION_EVERY = 4
"""Mean number of iterations between such estimates."""

FEWEST_CAMERAS = 0.1
"""Share of the cameras that must see a cell; at least two must."""


class OuterSegments(NamedTuple):
    """The light of each ray outside the unit sphere: of the segment in front of it, and of that behind it."""

    front: RaySegment
    behind: RaySegment

    def split(self, count: int) -> tuple["OuterSegments", "OuterSegments"]:
        """Those of the first `count` rays, and those of the others."""
        first, rest = (
            OuterSegments(*(RaySegment(*(values[part] for values in segment)) for segment in self))
            for part in (slice(count), slice(count, None))
        )
        return first, rest

    @property
    def without_surface(self) -> Float[Tensor, "r 3"]:
        """The light without a surface in the sphere."""
        return self.front.radiance + self.front.transmittance[:, None] * self.behind.radiance

    def with_surface(self, surface: Float[Tensor, "r 3"], alpha: Float[Tensor, " r"]) -> Float[Tensor, "r 3"]:
        """The composite with a surface in the sphere; `surface` is its radiance times its alpha."""
        inner = surface + (1 - alpha)[:, None] * self.behind.radiance
        return self.front.radiance + self.front.transmittance[:, None] * inner


class BackgroundField(Background):
    """A radiance field outside the unit sphere.

    Attributes:
        visible: cells of contracted space that enough cameras see; the field is nothing elsewhere.
        occupancy: cells among them where there is something; rays skip the others.
        view_dependent: whether what is seen of a point depends on where from; not to begin with.
    """

    def __init__(self, config: FieldConfig, brightness: float) -> None:
        super().__init__()
        self.config = config
        start = start_values(brightness, config.ambient)
        self.field = GridField(config.resolution, start) if config.representation == "grid" else MlpField(start)
        self.visible = nn.Buffer(torch.ones(CELLS, CELLS, CELLS, dtype=torch.bool))
        self.occupancy = nn.Buffer(torch.ones(CELLS, CELLS, CELLS, dtype=torch.bool))
        self.view_dependent = nn.Buffer(torch.tensor(False))

    @property
    def space(self) -> SampledField:
        """The field as rays sample it now."""
        # A cell of the finest grid can go from clear to opaque: nothing thinner can be told apart.
        return SampledField(self.field, self.config.resolution / 4, self.occupancy, bool(self.view_dependent))

    @property
    def empty(self) -> bool:
        """Whether nothing can be anywhere in the field."""
        return not self.visible.any().item()

    def confine(self, cameras: Cameras, images: Float[Tensor, "n h w 3"]) -> None:
        """To what enough cameras see, and to nothing where that is black."""
        if black_beside_sphere(cameras, images):
            self.visible.fill_(False)
        else:
            self.visible.copy_(visible_cells(cameras, CELLS, max(2, round(FEWEST_CAMERAS * len(cameras)))))
        self.occupancy.copy_(self.visible)

    @torch.no_grad()
    def prune(self) -> None:
        """Find the cells where there is something, and their neighbours, into which it may grow."""
        centers = cell_centers(CELLS, self.visible.device)
        parts = [activate(self.field(part), torch.zeros_like(part)).density for part in centers.split(1 << 16)]
        start = nn.functional.softplus(torch.tensor(EMPTY)).item()
        volume = (torch.cat(parts) > EMPTIED * start).float().view(1, 1, CELLS, CELLS, CELLS)
        grown = nn.functional.max_pool3d(volume, 3, stride=1, padding=1)[0, 0] > 0
        self.occupancy.copy_(self.visible & grown)

    def composite(
        self, rendering: Rendering, cameras: Cameras, given: Float[Tensor, "n h w 3"] | None = None
    ) -> Rendering:
        """As `Background.composite`; without gradient, for training composites some pixels (`composite_some`)."""
        if self.empty:
            return before(rendering, torch.zeros(3, device=rendering.radiance.device))
        return self._composite(rendering, cameras)

    @torch.no_grad()
    def _composite(self, rendering: Rendering, cameras: Cameras) -> Rendering:
        surface, alpha = rendering.radiance.flatten(0, 2), rendering.alpha.flatten()
        whole, alone = [], []
        for pixel in torch.arange(len(alpha), device=alpha.device).split(CHUNK):
            rays = rays_through(cameras, pixel)
            outer = self.outer_segments(rays, no_jitter(rays))
            whole.append(outer.with_surface(surface[pixel], alpha[pixel]))
            alone.append(outer.without_surface)
        shape = rendering.radiance.shape
        return rendering._replace(
            radiance=torch.cat(whole).view(shape), surface=rendering.radiance, background=torch.cat(alone).view(shape)
        )

    def outer_segments(
        self, rays: Rays, jitter: Float[Tensor, "r 1"], covered: Bool[Tensor, " r"] | None = None
    ) -> OuterSegments:
        """The field outside the unit sphere along rays.

        Args:
            jitter: in [0, 1), of the sampled intervals (`front_t_edges`); 1/2 for none.
            covered: rays whose segment behind the sphere is hidden by an opaque surface, and is left out.
        """
        front = front_t_edges(rays, self.config.samples // 2, jitter)
        behind = behind_t_edges(rays, self.config.samples, jitter)
        if covered is not None:
            # Intervals of no length are not looked up.
            behind = torch.where(covered[:, None], behind[:, :1], behind)
        return OuterSegments(*render_segments(self.space, rays, front, behind))

    def all_segments(self, rays: Rays, jitter: Float[Tensor, "r 1"]) -> tuple[OuterSegments, RaySegment]:
        """The field outside the unit sphere, and inside, where it stands for the object until there is a surface."""
        samples = self.config.samples
        front, inner, behind = render_segments(
            self.space,
            rays,
            front_t_edges(rays, samples // 2, jitter),
            inner_t_edges(rays, samples, jitter),
            behind_t_edges(rays, samples, jitter),
        )
        return OuterSegments(front, behind), inner

    def total_variation(self, generator: torch.Generator) -> Float[Tensor, ""]:
        """Mean absolute difference of neighbouring cells of the grids; 0 for a network, which is smooth by itself.

        An estimate without bias that is zero most of the time: its gradient costs what the grid is large.
        """
        if isinstance(self.field, GridField) and torch.rand((), generator=generator) < 1 / VARIATION_EVERY:
            return VARIATION_EVERY * self.field.total_variation(VARIATION_CELLS, generator)
        return torch.zeros((), device=self.visible.device)


def no_jitter(rays: Rays) -> Float[Tensor, "r 1"]:
    """The jitter with which intervals are equal: for renderings that are to be the same each time."""
    return torch.full_like(rays.enter[:, None], 0.5)
