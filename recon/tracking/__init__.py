"""Runs in MLflow: an export of their folders, which are the source of truth.

While a training goes on, a thread sends what each saved state has released; `recon sync` sends what is left.
Nothing else in recon imports MLflow, and here it is imported only when it is used, because that takes a second.
"""

from recon.tracking.export import ALBEDO, GOT_NOWHERE
from recon.tracking.live import Exporter, start_run
from recon.tracking.record import Dataset
from recon.tracking.stages import is_tracked, log_pages, log_validation, sync
from recon.tracking.store import initialise_store, tracking_uri

__all__ = [
    "ALBEDO",
    "GOT_NOWHERE",
    "Dataset",
    "Exporter",
    "initialise_store",
    "is_tracked",
    "log_pages",
    "log_validation",
    "start_run",
    "sync",
    "tracking_uri",
]
