"""Values on the unit sphere as textures from coarse to fine, over the octahedral map of the sphere onto a square."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import grid_sample, interpolate

from recon.render.kernels.serving import serves


class SphereTexture(nn.Module):
    """`channels` values at every point of the unit sphere, 0 to begin with.

    value(x) = sum_n (n_0 / n)^falloff * bilinear(texture_n, octahedral(x))

    As with the velocity's grids, the factors make coarse changes cheap and fine ones dear: paint spreads over what no
    photograph shows, and edges come last.
    """

    def __init__(self, sizes: tuple[int, ...], falloff: float, channels: int) -> None:
        super().__init__()
        self._factors = [(sizes[0] / size) ** falloff for size in sizes]
        self.textures = nn.ParameterList(nn.Parameter(torch.zeros(channels, size, size)) for size in sizes)

    def forward(self, sphere: Float[Tensor, "p 3"]) -> Float[Tensor, "p c"]:
        """The values at points, which need not be of length 1, with gradient to the textures and to the points."""
        padded = self._padded()
        if sphere.device.type == "cpu" and sphere.dtype == torch.float32 and serves(_trial, sphere.device, "textures"):
            from recon.model.compiled import look_up as compiled_look_up

            return compiled_look_up(padded, sphere)
        return look_up(padded, sphere)

    def _padded(self) -> Float[Tensor, "c n n"]:
        """The sum of the textures at the finest one's size, with a border of one texel."""
        total = self._factors[0] * wrapped(self.textures[0])
        for texture, factor in zip(self.textures[1:], self._factors[1:], strict=True):
            total = wrapped(refined(total) + factor * texture)
        return total


def _trial(device: torch.device) -> None:
    from recon.model.trial import check

    check(device)


def look_up(padded: Float[Tensor, "c m m"], points: Float[Tensor, "p 3"]) -> Float[Tensor, "p c"]:
    """The values of a texture with its border of one texel at points, in torch: see `recon.model.compiled.look_up`."""
    size = padded.shape[1]
    places = octahedral(points) * ((size - 2) / size)  # the border is beyond [-1, 1]
    values = grid_sample(padded[None], places[None, None], align_corners=False, padding_mode="border")
    return values[0, :, 0].T


def octahedral(points: Float[Tensor, "p 3"]) -> Float[Tensor, "p 2"]:
    """Where points of the sphere lie in the square [-1, 1]^2.

    The sphere is projected to the octahedron |x| + |y| + |z| = 1; its upper half seen from above is a square on its
    corner, and the four lower faces are folded out to that square's corners (Praun and Hoppe 2003, "Spherical
    Parametrization and Remeshing"; Cigolle et al. 2014, "A Survey of Efficient Representations for Independent Unit
    Vectors"). `recon.geometry.octahedral.sphere_points` is its inverse.
    """
    x, y, z = (points / points.abs().sum(dim=1, keepdim=True)).unbind(1)
    below = z < 0
    outer_x, outer_y = (1 - y.abs()) * _sign(x), (1 - x.abs()) * _sign(y)
    return torch.stack([torch.where(below, outer_x, x), torch.where(below, outer_y, y)], dim=1)


def wrapped(texture: Float[Tensor, "c n n"]) -> Float[Tensor, "c n+2 n+2"]:
    """A texture with a border of one texel, which holds what lies there on the sphere.

    Each side of the square is folded about its middle: beyond a side lies what is beside it, mirrored.
    """
    rows = torch.cat([texture[:, :1].flip(2), texture, texture[:, -1:].flip(2)], dim=1)
    left, right = texture[:, :, :1].flip(1), texture[:, :, -1:].flip(1)
    left = torch.cat([_at(texture, -1, -1), left, _at(texture, 0, -1)], dim=1)
    right = torch.cat([_at(texture, -1, 0), right, _at(texture, 0, 0)], dim=1)
    return torch.cat([left, rows, right], dim=2)


def refined(padded: Float[Tensor, "c m m"]) -> Float[Tensor, "c n n"]:
    """A texture with its border at twice the size, without its border: bilinear."""
    doubled = interpolate(padded[None], scale_factor=2, mode="bilinear", align_corners=False)[0]
    return doubled[:, 2:-2, 2:-2]


def _at(texture: Tensor, row: int, column: int) -> Tensor:
    return texture[:, row, column][:, None, None]


def _sign(values: Tensor) -> Tensor:
    """1 or -1; 1 for 0, where `torch.sign` has 0."""
    return torch.where(values < 0, -1.0, 1.0).to(values.dtype)
