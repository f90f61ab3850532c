"""The velocity field as a small network on positionally encoded points (Cheng et al. 2022, section 3.2)."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import jvp

from recon.config import SurfaceConfig
from recon.surface.flow import jacobian_determinants, step_derivatives, trajectory

NEGATIVE_SLOPE = 0.01


class PositionalEncoding(nn.Module):
    """amplitude_i * (sin(frequency_i * x), cos(frequency_i * x)) of each coordinate, i = 0 .. n - 1.

    frequency_i = frequency_base^i and amplitude_i = amplitude_base^-i. The decaying amplitudes make
    the network smooth at first and let it sharpen as it trains.
    """

    projection: Tensor
    phase: Tensor
    amplitude: Tensor

    def __init__(self, config: SurfaceConfig) -> None:
        super().__init__()
        i = torch.arange(config.frequencies)
        frequency, amplitude = config.frequency_base**i, config.amplitude_base**-i
        projection = torch.kron(torch.eye(3), frequency.float())
        self.channels = 6 * config.frequencies
        self.register_buffer("projection", torch.cat([projection, projection], dim=1), persistent=False)
        phase = torch.zeros(self.channels)
        phase[self.channels // 2 :] = torch.pi / 2  # cos(x) = sin(x + pi / 2): one call serves both
        self.register_buffer("phase", phase, persistent=False)
        self.register_buffer("amplitude", amplitude.float().repeat(6), persistent=False)

    def forward(self, points: Float[Tensor, "v 3"]) -> Float[Tensor, "v c"]:
        return torch.sin(torch.addmm(self.phase, points, self.projection)) * self.amplitude


class VelocityNetwork(nn.Module):
    """A stationary velocity v(x) in (-1, 1)^3 at points of the unit frame."""

    def __init__(self, config: SurfaceConfig) -> None:
        super().__init__()
        self.config = config
        self.encoding = PositionalEncoding(config)
        widths = [self.encoding.channels, *[config.width] * config.layers]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.output = nn.Linear(widths[-1], 3)
        # The flow starts close to the identity: the first mesh is the sphere itself.
        nn.init.uniform_(self.output.weight, -1e-3, 1e-3)
        nn.init.zeros_(self.output.bias)

    def forward(self, points: Float[Tensor, "v 3"]) -> Float[Tensor, "v 3"]:
        features = self.encoding(points)
        for layer in self.hidden:
            features = nn.functional.leaky_relu(layer(features), NEGATIVE_SLOPE)
        return torch.tanh(self.output(features))

    def flow(self) -> "NetworkFlow":
        """The flow of the field as it is now."""
        return NetworkFlow(self, self.config)


class NetworkFlow(NamedTuple):
    """The flow along a network's field, with derivatives by forward mode. See `recon.surface.flow.Flow`."""

    network: VelocityNetwork
    config: SurfaceConfig

    def trajectory(self, points: Float[Tensor, "v 3"]) -> list[Float[Tensor, "v 3"]]:
        return trajectory(self.network, points, self.config.steps, self.config.integrator)

    def energy(self, alpha: float, points: Float[Tensor, "k 3"]) -> Float[Tensor, ""]:
        """The mean over a few random points estimates that over all of them without bias."""
        residual = self.network(points)
        if alpha:
            residual = residual - alpha * laplacian(self.network, points)
        return residual.pow(2).sum(-1).mean()

    def step_derivatives(self, points: Float[Tensor, "v 3"]) -> Float[Tensor, "3 v 3"]:
        return step_derivatives(self.network, points, self.config.steps, self.config.integrator)

    def jacobian_determinants(self, points: Float[Tensor, "v 3"]) -> Float[Tensor, " v"]:
        return jacobian_determinants(self.network, points, self.config.steps, self.config.integrator)


def laplacian(field: nn.Module, points: Float[Tensor, "v 3"]) -> Float[Tensor, "v 3"]:
    """The sum of the field's second derivatives along x, y and z, by forward mode twice."""
    copies = points.repeat(3, 1)  # one pass for the three axes costs a third of three passes
    axes = torch.eye(3, dtype=points.dtype, device=points.device).repeat_interleave(len(points), dim=0)

    def derivative(at: Float[Tensor, "v 3"]) -> Float[Tensor, "v 3"]:
        return jvp(field, (at,), (axes,))[1]

    curvature: Tensor = jvp(derivative, (copies,), (axes,))[1]
    return curvature.view(3, *points.shape).sum(0)
