"""What surrounds the object: a radiance field outside the unit sphere, and a volume inside to begin with."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from recon.background.grid import GridField
from recon.background.medium import EMPTY, activate, start_values
from recon.background.mlp import MlpField
from recon.background.rays import Rays, behind_borders, front_borders, inner_borders
from recon.background.visible_cells import black_beside_sphere, cell_centers, seen_cells
from recon.background.volume import Passage, Space, march
from recon.camera import Cameras
from recon.config import FieldConfig

CELLS = 64
"""Cells along each axis of contracted space that are marked as seen and as occupied."""

EMPTIED = 0.6
"""Share of the density that cells start with below which rays skip them: what no ray emptied stays."""

ROUGHNESS_CELLS = 8192
"""Random cells of a grid that estimate its roughness."""

ROUGHNESS_EVERY = 4
"""Mean number of iterations between such estimates."""

FEWEST_CAMERAS = 0.1
"""Share of the cameras that must see a cell; at least two must."""


class Surroundings(NamedTuple):
    """Per ray: the light from in front of the unit sphere, what passes there, and the light from behind."""

    front: Passage
    behind: Passage

    @property
    def alone(self) -> Float[Tensor, "r 3"]:
        """The light without a surface in the sphere."""
        return self.front.radiance + self.front.transmittance[:, None] * self.behind.radiance

    def around(self, surface: Float[Tensor, "r 3"], coverage: Float[Tensor, " r"]) -> Float[Tensor, "r 3"]:
        """The composite with a surface in the sphere; `surface` is its radiance times its coverage."""
        inner = surface + (1 - coverage)[:, None] * self.behind.radiance
        return self.front.radiance + self.front.transmittance[:, None] * inner


class Background(nn.Module):
    """A radiance field outside the unit sphere.

    Attributes:
        seen: cells of contracted space that enough cameras see; the field is nothing elsewhere.
        occupied: cells among them where there is something; rays skip the others.
        turning: whether what is seen of a point depends on where from; not to begin with.
    """

    def __init__(self, config: FieldConfig, brightness: float) -> None:
        super().__init__()
        self.config = config
        start = start_values(brightness, config.ambient)
        self.field = GridField(config.resolution, start) if config.representation == "grid" else MlpField(start)
        self.seen = nn.Buffer(torch.ones(CELLS, CELLS, CELLS, dtype=torch.bool))
        self.occupied = nn.Buffer(torch.ones(CELLS, CELLS, CELLS, dtype=torch.bool))
        self.turning = nn.Buffer(torch.tensor(False))

    @property
    def space(self) -> Space:
        # A cell of the finest grid can go from clear to opaque: nothing thinner can be told apart.
        return Space(self.field, self.config.resolution / 4, self.occupied, bool(self.turning))

    @property
    def empty(self) -> bool:
        """Whether nothing can be anywhere in the field."""
        return not self.seen.any().item()

    def see(self, cameras: Cameras, images: Float[Tensor, "n h w 3"]) -> None:
        """Confine the field to what these cameras see, and to nothing where that is black."""
        if black_beside_sphere(cameras, images):
            self.seen.fill_(False)
        else:
            self.seen.copy_(seen_cells(cameras, CELLS, max(2, round(FEWEST_CAMERAS * len(cameras)))))
        self.occupied.copy_(self.seen)

    @torch.no_grad()
    def prune(self) -> None:
        """Find the cells where there is something, and their neighbours, into which it may grow."""
        centers = cell_centers(CELLS, self.seen.device)
        parts = [activate(self.field(part), torch.zeros_like(part)).density for part in centers.split(1 << 16)]
        start = nn.functional.softplus(torch.tensor(EMPTY)).item()
        volume = (torch.cat(parts) > EMPTIED * start).float().view(1, 1, CELLS, CELLS, CELLS)
        grown = nn.functional.max_pool3d(volume, 3, stride=1, padding=1)[0, 0] > 0
        self.occupied.copy_(self.seen & grown)

    def surroundings(
        self, rays: Rays, shift: Float[Tensor, "r 1"], covered: Bool[Tensor, " r"] | None = None
    ) -> Surroundings:
        """The field outside the unit sphere; behind it, only for rays that are not `covered`."""
        front = front_borders(rays, self.config.samples // 2, shift)
        behind = behind_borders(rays, self.config.samples, shift)
        if covered is not None:
            # Intervals of no length are not looked up.
            behind = torch.where(covered[:, None], behind[:, :1], behind)
        return Surroundings(*march(self.space, rays, front, behind))

    def with_volume(self, rays: Rays, shift: Float[Tensor, "r 1"]) -> tuple[Surroundings, Passage]:
        """The field outside and inside it; inside, it stands for the object until there is a surface."""
        samples = self.config.samples
        front, inner, behind = march(
            self.space,
            rays,
            front_borders(rays, samples // 2, shift),
            inner_borders(rays, samples, shift),
            behind_borders(rays, samples, shift),
        )
        return Surroundings(front, behind), inner

    def roughness(self, generator: torch.Generator) -> Float[Tensor, ""]:
        """How unlike neighbouring cells of a grid are; a network is smooth by itself.

        An estimate without bias that is zero most of the time: its gradient costs what the grid is large.
        """
        if isinstance(self.field, GridField) and torch.rand((), generator=generator) < 1 / ROUGHNESS_EVERY:
            return ROUGHNESS_EVERY * self.field.roughness(ROUGHNESS_CELLS, generator)
        return torch.zeros((), device=self.seen.device)


def no_shift(rays: Rays) -> Float[Tensor, "r 1"]:
    return torch.full_like(rays.enter[:, None], 0.5)
