"""The bunny's head and trainings on it, which the studies of crops share."""

from pathlib import Path

import torch

from recon.capture.extract import extract
from recon.config import RunConfig
from recon.model.model import Model
from recon.training.data import TrainingData
from recon.training.initialise import initial_model
from recon.training.loop import Optimisation, fit
from recon.training.schedule import Progress
from recon.views import Views, load_views

FOLDER = Path("results/studies/crops")
SCENE = Path("config/scenes/bunny_head.yaml")
SETS = ("front", "full", "above", "below")


def viewpoint_sets() -> dict[str, Views]:
    """All sets, extracted if they are not there."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    paths = {name: FOLDER / f"{name}.npz" for name in SETS}
    for name, path in paths.items():
        if not path.exists():
            extract(SCENE, path, set_name=name, like=None if name == "front" else paths["front"])
    return {name: load_views(path) for name, path in paths.items()}


def fitted(config: RunConfig, views: Views, progress: Progress) -> Model:
    """A model trained on the views until the progress is over, without anything written."""
    device = torch.device("cpu")
    model = initial_model(config, views, device)
    fit(Optimisation(model, TrainingData.from_views(views, device), progress), lambda step: None)
    return model
