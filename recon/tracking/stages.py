"""What comes after a training: validation and report, added to its run, and the delivery of what the store missed."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from recon.errors import ReconError
from recon.run_folder import RunFolder, ValidationFolder
from recon.tracking import live, store
from recon.tracking.export import Export, send_validation
from recon.tracking.record import read_record, reconstructed

if TYPE_CHECKING:
    from mlflow import MlflowClient


def sync(run: Path) -> str:
    """Deliver all that the folder `run` holds and the store has not got; returns what it was, in words.

    A second call finds nothing to do. Where the store does not have the run, it is created there.

    Raises:
        ReconError: the folder holds no training, or the store cannot be used.
    """
    record = read_record(run) or reconstructed(run, store.experiment_name())
    record.experiment = store.experiment_name(record.experiment)
    if record.status == "RUNNING":  # it was cut off and could not say how it ended
        record.status = "FINISHED" if RunFolder(run).is_trained else "KILLED"
    before = record.run_id
    try:
        counts = Export(run, record)(validated=True)
    except Exception as error:
        raise store.unusable(error) from error
    found = ", ".join(f"{counts[name]} {name}" for name in ("metrics", "renders", "files") if counts[name])
    where = "" if record.run_id == before else " in a new run"
    return f"{run}: {found or 'nothing new'}{where} delivered to {store.without_password(store.tracking_uri())}"


def is_tracked(run: Path) -> bool:
    """Whether the folder `run` belongs to a run of the store; one that is no file is believed to have it."""
    file = store.sqlite_file()
    return bool(RunFolder(run).run_id) and (file is None or file.is_file())


def log_validation(run: Path, out: Path, names: Collection[str]) -> None:
    """Add what `recon validate` wrote to `out` on the sets `names` to the run that trained `run`."""
    folder = ValidationFolder(out)
    default = out.resolve() == RunFolder(run).validation.path.resolve()
    advice = f"`recon sync {run}` delivers the rest" if default else "`recon validate` once more adds the rest"
    _add(run, lambda client, run_id: send_validation(client, run_id, folder, names, again=True), advice)


def log_pages(run: Path, pages: Mapping[str, str]) -> None:
    """Add HTML pages, by the names that they get as artifacts, to the run that trained `run`."""

    def send(client: "MlflowClient", run_id: str) -> None:
        for name, html in pages.items():
            client.log_text(run_id, html, name)

    _add(run, send, "`recon report` once more adds the rest")


def _add(run: Path, send: "Callable[[MlflowClient, str], object]", advice: str) -> None:
    """Do `send` where the store has the run of the folder `run`. A failure costs a warning with `advice`."""
    run_id = RunFolder(run).run_id or ""

    def job() -> None:
        client = store.open_client()
        if store.active_run(client, run_id) is None:
            raise ReconError(f"the store has no run {run_id}: `recon sync {run}` brings it there")
        send(client, run_id)

    if is_tracked(run):
        live.Uploads(job).close(live.PATIENCE, advice)
