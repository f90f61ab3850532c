"""The flow of one iteration, forward and backward, at each icosphere level and of either representation."""

import torch

from benchmarks.timing import median_milliseconds
from recon.config import SurfaceConfig
from recon.surface.grid import VelocityGrid
from recon.surface.icosphere import icosphere
from recon.surface.velocity import VelocityNetwork

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def flow_passes() -> str:
    config = SurfaceConfig()
    fields = {"grid": VelocityGrid(config).to(DEVICE), "mlp": VelocityNetwork(config).to(DEVICE)}

    def call(field: VelocityGrid | VelocityNetwork, level: int) -> None:
        field.flow().trajectory(icosphere(level, DEVICE).vertices)[-1].sum().backward()

    lines = []
    for name, field in fields.items():
        times = [f"level {k}: {median_milliseconds(lambda f=field, k=k: call(f, k), 10):.0f} ms" for k in (3, 4, 5)]
        lines.append(f"flow ({name}): forward and backward, " + ", ".join(times))
    return "\n".join(lines)
