"""The flow of one iteration, forward and backward, at each icosphere level."""

import torch

from benchmarks.timing import median_milliseconds
from recon.config import SurfaceConfig
from recon.surface.flow import flow
from recon.surface.icosphere import icosphere
from recon.surface.velocity import VelocityField

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def flow_passes() -> str:
    config = SurfaceConfig()
    field = VelocityField(config).to(DEVICE)

    def call(level: int) -> None:
        points = icosphere(level, DEVICE).vertices
        flow(field, points, config.steps, config.integrator).sum().backward()

    times = [f"level {k}: {median_milliseconds(lambda k=k: call(k), 10):.0f} ms" for k in (3, 4, 5)]
    return "flow: forward and backward, " + ", ".join(times)
