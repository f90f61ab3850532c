"""What a radiance field says of a point.

Under a flash at the camera, radiance is what the point reflects over the squared distance to the
camera, and with ambient light what it shows whatever the distance:

    radiance = albedo * max(0, offset + slope . towards) / distance^2 + ambient

A surface that reflects diffusely has offset 0 and its normal as slope, so the form is exact for it;
it says too little for shiny ones. Compare Bi et al. 2020, "Neural Reflectance Fields", and Cheng et
al. 2023, "WildLight".

To begin with nothing turns: the factor max(0, ...) is 1. A wall that may look different to every camera can
show the object to those before whom it stands.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

EMPTY = -6.0
"""Value before activation that densities start with: all but transparent."""

START_ALBEDO = 0.3
"""Albedo that fields start with, relative to a bright object's."""


class Medium(NamedTuple):
    """A field at points seen from somewhere."""

    density: Float[Tensor, " s"]
    """Extinction per unit of contracted length, over the field's sharpness."""
    reflected: Float[Tensor, "s 3"]
    """Radiance under the flash times the squared distance."""
    ambient: Float[Tensor, "s 3"] | None
    """Radiance without the flash."""


def start_values(brightness: float, ambient: bool) -> Float[Tensor, " c"]:
    """A transparent grey medium; `brightness` is the albedo of a bright object (times flash / pi).

    Density, albedo (3), offset, slope (3) and with `ambient` the ambient radiance (3).
    """
    albedo = torch.tensor(START_ALBEDO * brightness).expm1().log().item()
    values = [EMPTY, *[albedo] * 3, 1.0, 0.0, 0.0, 0.0]
    return torch.tensor([*values, *[EMPTY] * 3] if ambient else values)


def activate(values: Float[Tensor, "s c"], towards: Float[Tensor, "s 3"], view_dependent: bool = True) -> Medium:
    """The medium of a field's values. `towards` are unit directions to the camera, which count where `view_dependent`.

    Activation comes after interpolation, so that a surface may lie anywhere within a cell
    (Sun et al. 2022, "Direct Voxel Grid Optimization", section 4.2).
    """
    reflected = softplus(values[:, 1:4])
    if view_dependent:
        reflected = reflected * (values[:, 4:5] + (values[:, 5:8] * towards).sum(1, keepdim=True)).clamp(min=0)
    ambient = softplus(values[:, 8:]) if values.shape[1] > 8 else None
    return Medium(softplus(values[:, 0]), reflected, ambient)
