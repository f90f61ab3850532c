"""Deliver to the store what it did not take while a run went: from the run's folder, whenever asked."""

from pathlib import Path
from typing import TYPE_CHECKING

from recon.files import atomic
from recon.tracking.curves import Curves
from recon.tracking.record import Record, read_record, reconstructed
from recon.tracking.renders import Renders
from recon.tracking.runs import create_run, describe, send_tags
from recon.tracking.stages import BESIDE_SETS, run_id_of, send_figures, validation_figures
from recon.tracking.store import experiment_name, is_missing, open_client, tracking_uri, unusable, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient

OUTPUTS = ("mesh.ply", "mesh.glb", "model.pt", "train.yaml", "history.csv", "validation.csv", "viewer.html")
"""What a training leaves as artifacts."""


def sync(run: Path) -> str:
    """Deliver all that the folder `run` holds and the store has not got; returns what it was, in words.

    Parameters, tags, datasets, the metrics of the CSV files, renders, files, what validation wrote, and
    how the run ended. A second call finds nothing to do. Where the store does not have the run, it is
    created there.

    Raises:
        ReconError: the folder holds no training, or the store cannot be used.
    """
    record = read_record(run) or reconstructed(run, experiment_name())
    client = open_client()
    try:
        created = _find_or_create(client, run, record)
        counts = _deliver(client, run, record)
    except Exception as error:
        raise unusable(error) from error
    found = [f"{count} {name}" for name, count in counts.items() if count] or ["nothing new"]
    return (
        f"{run}: {', '.join(found)}{' in a new run' if created else ''} delivered to {without_password(tracking_uri())}"
    )


def _find_or_create(client: "MlflowClient", run: Path, record: Record) -> bool:
    """Point `record` to the run of the store that the folder belongs to; whether it had to be created."""
    known = run_id_of(run) if (run / "run_id.txt").is_file() else record.run_id
    if known:
        try:
            client.get_run(known)
            record.run_id = known
            return False
        except Exception as error:
            if not is_missing(error):
                raise
    record.run_id = create_run(client, record)
    with atomic(run / "run_id.txt") as temporary:
        temporary.write_text(record.run_id + "\n")
    if read_record(run):
        record.write(run)
    return True


def _deliver(client: "MlflowClient", run: Path, record: Record) -> dict[str, int]:
    run_id = record.run_id
    send_tags(client, run_id, record.tags)
    describe(client, record)
    curves, renders = Curves(run), Renders(run)
    curves.learn(client, run_id)
    renders.learn(client, run_id)
    numbers, files = validation_figures(run / "validation", _sets(run / "validation"))
    counts = {
        "metrics": curves.send(client, run_id, curves.sizes()) + send_figures(client, run_id, numbers),
        "renders": sum(renders.send(client, run_id, path) for path in renders.kept()),
        "files": sum(_send_file(client, run_id, run / name) for name in OUTPUTS)
        + sum(_send_file(client, run_id, path, "validation") for path in files),
    }
    _end(client, run, record)
    return counts


def _end(client: "MlflowClient", run: Path, record: Record) -> None:
    """The status that the training ended with; one that was cut off could not say it."""
    status = record.status
    if status == "RUNNING":
        status = "FINISHED" if all((run / name).exists() for name in ("mesh.ply", "model.pt")) else "KILLED"
    if client.get_run(record.run_id).info.status != status:
        client.set_terminated(record.run_id, status, record.ended)


def _sets(validation: Path) -> list[str]:
    """The viewpoint sets that the folder of a validation tells of."""
    return sorted(path.stem for path in validation.glob("*.json") if path.stem not in BESIDE_SETS)


def _send_file(client: "MlflowClient", run_id: str, path: Path, folder: str | None = None) -> int:
    """Send a file that the store has not got, or has in another size; returns how many were sent."""
    if not path.is_file():
        return 0
    stored = {Path(file.path).name: file.file_size for file in client.list_artifacts(run_id, folder)}
    if stored.get(path.name) == path.stat().st_size:
        return 0
    client.log_artifact(run_id, str(path), folder)
    return 1
