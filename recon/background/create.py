"""The background that a configuration asks for."""

from recon.background.background import Background, ConstantBackground, GivenBackground
from recon.background.field import BackgroundField
from recon.config import RunConfig


def create_background(config: RunConfig, brightness: float) -> Background:
    """A background as it is before training; `brightness` is the albedo of a bright object (times flash / pi)."""
    match config.background:
        case "none":
            return Background()
        case "constant":
            return ConstantBackground()
        case "given":
            return GivenBackground()
        case "field":
            return BackgroundField(config.field, brightness)
