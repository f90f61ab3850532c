"""Rays of pixels, and where along them the field is sampled.

    camera ......... enter ======= leave ......... far
             front          inner         behind

A ray that misses the unit sphere enters and leaves it where it comes nearest to the origin.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from recon.camera import Cameras
from recon.render.intersect import pixel_rays

NEAR = 0.05
"""The field is sampled from this distance of the camera on, in radii of the unit sphere: nothing stands nearer."""

CHUNK = 4096
"""Rays followed at once where no gradient is asked for: bounds the memory."""

FAR = 30.0
"""And up to this distance behind the unit sphere, in its radii: farther off the flash lights nothing."""


NEIGHBOURS = 3
"""Nearest cameras among which places count as being between."""


class Rays(NamedTuple):
    """Unit directions, and the distances from the origins at which rays enter and leave the unit sphere.

    `lights`: where the light of each ray's view is; None: at the origins.
    """

    origins: Float[Tensor, "r 3"]
    directions: Float[Tensor, "r 3"]
    enter: Float[Tensor, " r"]
    leave: Float[Tensor, " r"]
    lights: Float[Tensor, "r 3"] | None = None

    def select(self, index: Int[Tensor, " s"]) -> "Rays":
        """Some of the rays."""
        places = Rays(*(values.index_select(0, index) for values in self[:4]))
        return places if self.lights is None else places._replace(lights=self.lights.index_select(0, index))


def rays_through(cameras: Cameras, pixel: Int[Tensor, " r"]) -> Rays:
    """The rays through the centres of pixels.

    Args:
        pixel: flat indices into the views of `cameras`, (n, h, w).

    Returns:
        Rays in the unit frame. One that misses the unit sphere enters and leaves it at the same distance, where
        it comes nearest to the origin; distances are at least `NEAR`.
    """
    directions = normalize(pixel_rays(cameras, pixel), dim=1)
    view = torch.div(pixel, cameras.height * cameras.width, rounding_mode="floor")
    rays = _rays(cameras.centers.index_select(0, view), directions)
    if cameras.lights is None:
        return rays
    return rays._replace(lights=cameras.lights[:, :3].index_select(0, view))


def rays_from_between(centers: Float[Tensor, "n 3"], count: int, generator: torch.Generator) -> Rays:
    """Random rays into the unit sphere from places among the cameras, where the next photograph may be taken.

    Args:
        centers: of the cameras, in the unit frame.
        count: rays; none where there is but one camera.

    A place is a random point of a ball around a camera that reaches to the `NEIGHBOURS`-th nearest other one, but at
    most half the way to the centre. The ray goes to a random point of the sphere's inside.
    """
    others = min(NEIGHBOURS, len(centers) - 1)
    apart = torch.cdist(centers, centers).kthvalue(others + 1).values
    reach = torch.minimum(apart, centers.norm(dim=1) / 2)
    camera = torch.randint(len(centers), (count if others else 0,), generator=generator).to(centers.device)
    offset, aim = (_in_unit_ball(len(camera), generator).to(centers) for _ in range(2))
    origins = centers.index_select(0, camera) + reach.index_select(0, camera)[:, None] * offset
    return _rays(origins, normalize(aim - origins, dim=1))


def _in_unit_ball(count: int, generator: torch.Generator) -> Float[Tensor, "p 3"]:
    directions = normalize(torch.randn(count, 3, generator=generator), dim=1)
    return directions * torch.rand(count, 1, generator=generator) ** (1 / 3)


def joined(*parts: Rays) -> Rays:
    """The rays of all parts, one after another."""
    every = Rays(*(torch.cat(values) for values in zip(*(part[:4] for part in parts), strict=True)))
    if all(part.lights is None for part in parts):
        return every
    return every._replace(lights=torch.cat([part.origins if part.lights is None else part.lights for part in parts]))


def _rays(origins: Float[Tensor, "r 3"], directions: Float[Tensor, "r 3"]) -> Rays:
    closest = -(origins * directions).sum(1)
    squared = (origins * origins).sum(1) - closest**2
    half = (1 - squared).clamp(min=0).sqrt()
    return Rays(origins, directions, (closest - half).clamp(min=NEAR), (closest + half).clamp(min=NEAR))


def rays_into_sphere(cameras: Cameras) -> Iterator[tuple[Int[Tensor, " p"], Rays]]:
    """The pixels whose rays meet the unit sphere, and these rays, at most `CHUNK` at a time."""
    pixels = torch.arange(len(cameras) * cameras.height * cameras.width, device=cameras.intrinsics.device)
    rays = rays_through(cameras, pixels)
    for part in (rays.leave > rays.enter).nonzero().squeeze(1).split(CHUNK):
        yield part, rays.select(part)


def front_t_edges(rays: Rays, count: int, jitter: Float[Tensor, "r 1"]) -> Float[Tensor, "r k"]:
    """Edges of `count` equal intervals from the camera to the sphere: distances along the rays, (rays, count + 1).

    Inner edges are moved by `jitter` - 1/2 of an interval, `jitter` in [0, 1); the first and the last stay.
    """
    return NEAR + _jittered(count, jitter) * (rays.enter[:, None] - NEAR)


def inner_t_edges(rays: Rays, count: int, jitter: Float[Tensor, "r 1"]) -> Float[Tensor, "r k"]:
    """Edges of `count` equal intervals within the sphere, as `front_t_edges`."""
    return rays.enter[:, None] + _jittered(count, jitter) * (rays.leave - rays.enter)[:, None]


def behind_t_edges(rays: Rays, count: int, jitter: Float[Tensor, "r 1"]) -> Float[Tensor, "r k"]:
    """Edges of `count` intervals from the sphere to `FAR`, as long as contraction makes them equal."""
    steps = _jittered(count, jitter) * (FAR / (1 + FAR))
    return rays.leave[:, None] + steps / (1 - steps)


def _jittered(count: int, jitter: Float[Tensor, "r 1"]) -> Float[Tensor, "r k"]:
    """Edges in [0, 1]; the first and the last stay, so that the intervals cover all."""
    t_edges = torch.arange(count + 1, device=jitter.device) + jitter - 0.5
    t_edges[:, 0], t_edges[:, -1] = 0, count
    return t_edges.clamp(0, count) / count
