"""What every test starts from: fixed seeds, one thread, and an MLflow store of its own session."""

import os
import random

import numpy as np
import pytest
import torch

# Tests run side by side, and their tensors are too small for more. Processes that tests start inherit it.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)


PROGRAMS = ("browser", "cluster", "workflow")
"""Folders of tests that start chromium, Slurm or Snakemake."""


WHOLE_RUNS = {
    *("test_asset_in_blender", "test_blender", "test_delivered", "test_diligent", "test_evaluation", "test_faults"),
    *("test_gallery", "test_light", "test_parallel_store", "test_report", "test_report_figures", "test_report_publish"),
    *("test_resume", "test_security", "test_stopping", "test_structure_from_motion", "test_sync", "test_tracking"),
    *("test_training", "test_viewer"),
}
"""Modules of tests that train, validate, write pages or talk to MLflow as a person does."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("cuda") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
        if item.path.parent.name in PROGRAMS or item.path.stem in WHOLE_RUNS:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def store_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for all tests: a new one takes MLflow seconds to create."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture(autouse=True)
def store(store_uri: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """No test writes to the store of the person who runs it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    return store_uri
