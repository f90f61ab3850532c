"""What is seen where the surface is not: the one interface to it of rendering and training."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recon.camera import Cameras
from recon.render.renderer import Rendering


class Background(nn.Module):
    """Black, which has no parameters; the other backgrounds do otherwise where they differ."""

    def confine(self, cameras: Cameras, images: Float[Tensor, "n h w 3"]) -> None:
        """Restrict what can be known to what the cameras of the training views see."""

    def composite(
        self, rendering: Rendering, cameras: Cameras, given: Float[Tensor, "n h w 3"] | None = None
    ) -> Rendering:
        """The rendering of a surface before black, set before this background in every pixel.

        `given` is what the cameras see without the object, where that is known.
        """
        return rendering


class ConstantBackground(Background):
    """One colour, which is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.color = nn.Parameter(torch.zeros(3))

    def composite(
        self, rendering: Rendering, cameras: Cameras, given: Float[Tensor, "n h w 3"] | None = None
    ) -> Rendering:
        return before(rendering, self.color)


class GivenBackground(Background):
    """The views without the object. A rendering of which they are not known stays before black."""

    def composite(
        self, rendering: Rendering, cameras: Cameras, given: Float[Tensor, "n h w 3"] | None = None
    ) -> Rendering:
        return rendering if given is None else before(rendering, given)


def before(rendering: Rendering, behind: Float[Tensor, "..."]) -> Rendering:
    """The rendering of a surface before black, set before radiance that broadcasts to its own."""
    seen = (1 - rendering.alpha)[..., None] * behind
    return rendering._replace(
        radiance=rendering.radiance + seen,
        surface=rendering.radiance,
        background=behind.expand_as(rendering.radiance),
    )
