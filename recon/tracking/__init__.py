"""Runs in MLflow: what was trained, with which parameters, how it went, what came out.

The store is `MLFLOW_TRACKING_URI`, or else the SQLite file `results/mlflow.db` with its artifacts
beside it. Nothing else in recon imports MLflow, and here it is imported only when a run starts,
because that takes a second.

A run's folder is the source of truth. What the store did not take while a training ran is still there,
and `recon sync` delivers it.
"""

from recon.tracking.inputs import Dataset
from recon.tracking.runs import attach, start_run
from recon.tracking.stages import is_tracked, log_pages, log_validation
from recon.tracking.store import initialise_store, tracking_uri
from recon.tracking.sync import sync
from recon.tracking.tracker import Tracker

__all__ = [
    "Dataset",
    "Tracker",
    "attach",
    "initialise_store",
    "is_tracked",
    "log_pages",
    "log_validation",
    "start_run",
    "sync",
    "tracking_uri",
]
