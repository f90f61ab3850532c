"""One training run, from viewpoint sets to the files and the MLflow run that it leaves."""

import sys
from collections.abc import Mapping
from pathlib import Path

from recon.config import RunConfig, flatten, overrides, save_config
from recon.errors import ReconError
from recon.files import atomic, remove_leftovers, writable_folder
from recon.identity import identity_fields
from recon.render.pytorch3d import require_pytorch3d
from recon.tracking import Dataset, start_run, tracking_uri
from recon.tracking.record import read_record
from recon.training.checkpoint import save_model
from recon.training.course import Course, content
from recon.training.data import TrainingData, before_black, check_given, check_lights
from recon.training.device import training_device
from recon.training.export import write_meshes
from recon.training.initialise import initial_model
from recon.training.lock import locked
from recon.training.loop import Optimisation
from recon.training.progress_line import clock, panel
from recon.training.recorder import Recorder, thinned
from recon.training.schedule import Progress
from recon.training.state import Restart, StateFile
from recon.training.stopping import EarlyStopping, check_watched
from recon.views import Views, load_views

OUTPUTS = ("mesh.ply", "mesh.glb", "viewer.html", "model.pt", "train.yaml", "history.csv", "validation.csv")


def train(
    views: Path,
    config: RunConfig,
    out: Path,
    validation: Mapping[str, Path] | None = None,
    max_minutes: float | None = None,
    quiet: bool = False,
    name: str | None = None,
    restart: Restart | None = None,
) -> None:
    """Train on the viewpoint set `views` and leave a run folder (DESIGN: stages, files) at `out`.

    `max_minutes` bounds the schedule by wall clock instead of `train.iterations`. Writing the meshes
    comes after it and takes seconds. A training that was stopped goes on from its last state, and one
    that is over only writes its files again; `restart` says when to train anew instead.

    Raises:
        ReconError: an input is bad, `out` or the MLflow store cannot be written, the state in `out` is
            damaged or of another training, another process trains there, or training diverges; the
            last state before that is then kept in `checkpoints`.
        KeyboardInterrupt, SystemExit: Ctrl-C or SIGTERM came; a state of that moment is kept.
    """
    progress = Progress(config.train.iterations, None if max_minutes is None else 60 * max_minutes)
    stopping = EarlyStopping(config.train.early_stopping)
    check_watched(config.train.early_stopping, validation or {})
    if config.render.backend == "pytorch3d":
        require_pytorch3d()
    training = load_views(views)
    identity = identify(config, max_minutes, training)
    datasets = [Dataset("train", views, "training", training.digest)]
    if config.background == "none":
        training = before_black(training)
    check_crop(config, training, views)
    check_lights(config.background, training, views)
    check_given(config.background, training, views)
    sets = {"train": thinned(training)}
    for set_name, path in (validation or {}).items():
        loaded = load_views(path)
        check_given(config.background, loaded, path)
        datasets.append(Dataset(set_name, path, "validation", loaded.digest))
        sets[set_name] = thinned(loaded.aligned_to(training))
        if set_name == config.train.early_stopping.set:
            identity[f"digest of --validation {set_name}"] = loaded.digest
    writable_folder(out / "checkpoints")
    with locked(out), training_device() as device:
        for folder in (out, out / "checkpoints"):
            remove_leftovers(folder)
        states = StateFile(out / "checkpoints", identity)
        state = states.resume(restart)
        model = initial_model(config, training, device)
        optimisation = Optimisation(model, TrainingData.from_views(training, device), progress)
        if state is not None:
            optimisation.load_state_dict(state["optimisation"])
            stopping.load_state_dict(state["stopping"])
        with Recorder(model, sets, progress, out, quiet, None if state is None else state["recorder"]) as recorder:
            if state is None:
                state = content(optimisation, recorder, stopping, run_id=None, finished=False)
                states.save(state)
            with start_run(
                name or run_name(out),
                describe(config, training, views, max_minutes),
                out=out,
                run_id=state["run_id"] or unused_run(out),
                datasets=datasets,
            ) as tracker:
                _write_text(out / "run_id.txt", tracker.run_id)
                save_config(config, out / "train.yaml")
                recorder.save()
                if not state["finished"]:
                    Course(optimisation, recorder, stopping, states, tracker, config.train.save_every).run()
                write_meshes(model, out)
                save_model(model, out / "model.pt")
                write_page(out)
                states.forget_previous()
                for file in OUTPUTS:
                    tracker.log_artifact(out / file)
    if not quiet:
        print(_farewell(out, views, validation or {}, progress, recorder.latest), file=sys.stderr)


def identify(config: RunConfig, max_minutes: float | None, views: Views) -> dict[str, object]:
    """What makes this training the same as another, by the names under which a person changes it."""
    return {**identity_fields(config), "--max-minutes": max_minutes, "digest of --views": views.digest}


def write_page(out: Path) -> None:
    """`viewer.html`: the mesh to turn, for MLflow, which shows pages but no meshes."""
    from recon.report.viewer import write_viewer  # with the plots of reports, it takes a second

    write_viewer(out / "mesh.glb", out / "viewer.html")


def unused_run(out: Path) -> str | None:
    """The MLflow run of a training that was killed before it kept a state that names it."""
    record = read_record(out)
    return None if record is None else record.run_id


def check_crop(config: RunConfig, views: Views, path: Path) -> None:
    """Raise `ReconError` where the window is larger than the images."""
    size = config.train.crop.size
    if size is not None and size > min(views.height, views.width):
        raise ReconError(
            f"key 'train.crop.size': {size} pixels, but the images of {path} are {views.width} x {views.height}"
        )


def describe(config: RunConfig, views: Views, path: Path, max_minutes: float | None) -> dict[str, object]:
    """The parameters of the run for MLflow: configuration, what of it is not at its default, and data."""
    data = {
        "data.path": str(path),
        "data.views": len(views),
        "data.height": views.height,
        "data.width": views.width,
    }
    budget = {} if max_minutes is None else {"max_minutes": max_minutes}
    # One column that tells runs apart, where the configuration is seventy.
    changed = {"changed": " ".join(overrides(config)) or "nothing"}
    return {**changed, **flatten(config.model_dump(mode="json")), **data, **budget}


def run_name(out: Path) -> str:
    """The last two parts of the folder."""
    return "/".join(out.resolve().parts[-2:])


def _write_text(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text + "\n")


def _farewell(
    out: Path, views: Path, validation: Mapping[str, Path], progress: Progress, errors: Mapping[str, float]
) -> str:
    sets = " ".join(f"{name}={path}" for name, path in {"train": views, **validation}.items())
    rows = [
        ("trained", f"{progress.iteration} iterations in {clock(progress.seconds)}"),
        ("error", "  ".join(f"{name} {error:.4f}" for name, error in errors.items())),
        ("mesh", f"{out / 'mesh.ply'}  {out / 'mesh.glb'}"),
        ("model", str(out / "model.pt")),
        ("history", f"{out / 'history.csv'}  {out / 'validation.csv'}"),
        ("MLflow", tracking_uri()),
        ("", ""),
        ("measure", f"recon validate --run {out} --views {sets} --out {out / 'validation'}"),
        ("look", f"recon view {out}"),
    ]
    return panel("recon", rows)
