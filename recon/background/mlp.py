"""A field as a network (Mildenhall et al. 2020, NeRF): slower than a grid, smaller and smoother."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

FREQUENCIES = 7
"""Octaves of the encoding; the highest has a period of a 32nd of the unit sphere's radius."""

WIDTH = 64


class MlpField(nn.Module):
    """Sines and cosines of a contracted point through three hidden layers."""

    def __init__(self, start: Float[Tensor, " c"]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (3 + 6 * FREQUENCIES, WIDTH, WIDTH):
            layers += [nn.Linear(inputs, WIDTH), nn.ReLU()]
        last = nn.Linear(WIDTH, len(start))
        nn.init.normal_(last.weight, std=1e-2)
        self.layers = nn.Sequential(*layers, last)
        self.start = nn.Buffer(start)
        nn.init.zeros_(last.bias)

    def forward(self, points: Float[Tensor, "s 3"]) -> Float[Tensor, "s c"]:
        octaves = 2.0 ** torch.arange(FREQUENCIES, device=points.device)
        angles = (points[:, :, None] * octaves).flatten(1)
        return self.start + self.layers(torch.cat([points, angles.sin(), angles.cos()], dim=1))
