"""One training run, from viewpoint sets to the files and the MLflow run that it leaves."""

import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from recon.background.black import before_black
from recon.background.requirements import check_given, check_lights
from recon.config import RunConfig, flatten, overrides, save_config
from recon.errors import ReconError
from recon.files import remove_leftovers, writable_folder
from recon.identity import identity_fields
from recon.model.export import write_meshes
from recon.model.file import save_light, save_model, save_poses
from recon.model.model import Model
from recon.processor import settle_on_cpu
from recon.render.pytorch3d import require_pytorch3d
from recon.run_folder import (
    CAMERAS,
    CHECKS,
    CONFIG,
    HISTORY,
    LIGHT,
    MESH_GLB,
    MESH_PLY,
    MODEL,
    RESERVED_SETS,
    RunFolder,
)
from recon.tracking import ALBEDO, GOT_NOWHERE, Dataset, start_run, tracking_uri
from recon.training.data import TrainingData
from recon.training.device import training_device
from recon.training.initialise import initial_model
from recon.training.lock import locked
from recon.training.loop import Optimisation
from recon.training.outcome import measured, outcome
from recon.training.progress_line import ProgressLine, clock, panel
from recon.training.recorder import Recorder, shrunk, thinned
from recon.training.schedule import Progress
from recon.training.state import Restart, StateFile
from recon.training.stopping import EarlyStopping, check_watched
from recon.training.trainer import Trainer, content
from recon.views import LIGHTS, Views, load_views

TRAINING_SET = "train"
"""Name under which the error on the views that are fitted is recorded."""


@dataclass(frozen=True)
class Options:
    """What of a training leaves its result alone, but for `max_minutes`, which bounds its schedule.

    Attributes:
        max_minutes: wall clock instead of `train.iterations`. Writing the meshes comes after it and takes seconds.
        quiet: no progress line and no panel at the end.
        name: of the run in MLflow; the last two parts of the folder where None.
        restart: when to train anew instead of going on from the state in the folder.
        doubts: called with the views and the configuration before the training; its lines become warnings.
        make_pages: called with the run folder once the meshes are there; writes pages that become artifacts too.
    """

    max_minutes: float | None = None
    quiet: bool = False
    name: str | None = None
    restart: Restart | None = None
    doubts: Callable[[Views, RunConfig], list[str]] | None = None
    make_pages: Callable[[Path], object] | None = None


@dataclass(frozen=True)
class Inputs:
    """What a training reads, checked.

    Attributes:
        views: those that are fitted, their background blackened where a surface alone has to explain them.
        sets: what checkpoints measure, by name, thinned, and blackened by the same rule.
        datasets: the files, for MLflow.
        identity: what makes this training the same as another, by the names under which a person changes it.
    """

    views: Views
    sets: dict[str, Views]
    datasets: list[Dataset]
    identity: dict[str, object]


def train(
    views: Path,
    config: RunConfig,
    out: Path,
    validation: Mapping[str, Path] | None = None,
    options: Options = Options(),
) -> None:
    """Train on the viewpoint set `views` and leave a run folder (`recon.run_folder`) at `out`.

    A training that was stopped goes on from its last state, and one that is over only writes its files again;
    `options.restart` says when to train anew instead. `validation` are viewpoint sets that checkpoints measure.
    A training that got nowhere (`recon.training.outcome`) ends with a warning, also where it is to be quiet.

    Raises:
        ReconError: an input is bad, `out` cannot be written, MLflow's address is wrong, the state in `out` is
            damaged or of another training, another process trains there, or training diverges; the
            last state before that is then kept in `checkpoints`.
        KeyboardInterrupt, SystemExit: Ctrl-C or SIGTERM came; a state of that moment is kept.
    """
    with closing(ProgressLine(quiet=options.quiet)) as line:
        _train(views, config, out, validation or {}, options, line)


def _train(
    views: Path,
    config: RunConfig,
    out: Path,
    validation: Mapping[str, Path],
    options: Options,
    line: ProgressLine,
) -> None:
    inputs = read_inputs(views, config, validation, options.max_minutes)
    config = scaled(config, inputs.views)
    run = RunFolder(out)
    writable_folder(run.checkpoints)
    with locked(out), training_device() as device:
        if device.type == "cpu":
            settle_on_cpu(config, inputs.views.height, inputs.views.width)
        for folder in (run.path, run.checkpoints):
            remove_leftovers(folder)
        states = StateFile(run, inputs.identity)
        state = states.resume(options.restart)
        progress = Progress(config.train.iterations, None if options.max_minutes is None else 60 * options.max_minutes)
        stopping = EarlyStopping(config.train.early_stopping)
        count, height, width = inputs.views.images.shape[:3]
        line.say(f"looking at {count} views of {width}x{height}")
        if options.doubts is not None and not (state and state["finished"]):
            for doubt in options.doubts(inputs.views, config):
                print(f"recon: warning: {views}: {doubt}", file=sys.stderr)
        model = initial_model(config, inputs.views, device)
        optimisation = Optimisation(model, TrainingData.from_views(inputs.views, device), progress)
        if state is not None:
            optimisation.load_state_dict(state["optimisation"])
            stopping.load_state_dict(state["stopping"])
        recorded = None if state is None else state["recorder"]
        line.say("opening the MLflow store")
        with Recorder(model, inputs.sets, progress, out, line, recorded) as recorder:
            if state is None:
                state = content(optimisation, recorder, stopping, finished=False)
                states.save(state)
            with start_run(
                options.name or run.name,
                describe(config, inputs.views, views, options.max_minutes),
                out=out,
                datasets=inputs.datasets,
            ) as tracker:
                save_config(config, run.file(CONFIG))
                recorder.save()
                if not state["finished"]:
                    Trainer(optimisation, recorder, stopping, states, tracker, config.train.save_every).run()
                found = _outcome(model, inputs, recorder.latest, progress)
                tracker.mark(GOT_NOWHERE, found)
                tracker.mark(ALBEDO, albedo_found(model))
                line.say("writing meshes and textures")
                write_meshes(model, out)
                save_model(model, run.file(MODEL))
                save_light(model, run.file(LIGHT))
                save_poses(model, run.file(CAMERAS))
                if options.make_pages is not None:
                    options.make_pages(out)
                states.forget_previous()
    if not options.quiet:
        print(_farewell(run, views, validation, progress, recorder.latest, albedo_found(model)), file=sys.stderr)
    if found is not None:
        print(f"recon: warning: {out}: {found}", file=sys.stderr)


def read_inputs(views: Path, config: RunConfig, validation: Mapping[str, Path], max_minutes: float | None) -> Inputs:
    """Read and check all that a training reads.

    Raises:
        ReconError: a file is bad, or does not go with the configuration.
    """
    check_set_names(validation)
    check_watched(config.train.early_stopping, validation)
    check_backend(config)
    loaded = load_views(views)
    identity = {**identity_fields(config), "--max-minutes": max_minutes, "digest of --views": loaded.digest}
    datasets = [Dataset(TRAINING_SET, views, "training", loaded.digest)]
    training = before_black(loaded) if config.background == "none" else loaded
    check_crop(config, training, views)
    check_lights(config.background, training, views)
    check_light_of_views(config, training, views)
    check_given(config.background, training, views)
    sets = {TRAINING_SET: thinned(training)}
    for name, path in validation.items():
        measured = load_views(path)
        if name == TRAINING_SET:
            if measured.digest != loaded.digest:
                raise ReconError(f"{path}: '{name}' is the name of the views that are fitted, and these are others")
            continue  # they are measured anyway
        check_lights(config.background, measured, path)
        check_given(config.background, measured, path)
        datasets.append(Dataset(name, path, "validation", measured.digest))
        aligned = measured.aligned_to(training)
        sets[name] = thinned(before_black(aligned) if config.background == "none" else aligned)
        if name == config.train.early_stopping.set:
            identity[f"digest of --validation {name}"] = measured.digest
    if config.background == "field":
        sets = {name: shrunk(measured) for name, measured in sets.items()}
    return Inputs(training, sets, datasets, identity)


def scaled(config: RunConfig, views: Views) -> RunConfig:
    """The configuration with the scale that a marker in the photographs told, where it says none itself."""
    if config.export.metres is not None or views.metres is None:
        return config
    return config.model_copy(update={"export": config.export.model_copy(update={"metres": views.metres})})


def check_set_names(names: Mapping[str, Path]) -> None:
    """Raise `ReconError` where a viewpoint set has the name of something else that a run records."""
    for name in names:
        if name in RESERVED_SETS:
            raise ReconError(f"--validation {name}=…: the name is that of a file of `recon validate`; choose another")


def check_backend(config: RunConfig) -> None:
    """Raise `ReconError` where PyTorch3D is asked for and missing, or for what it does not render."""
    if config.render.backend != "pytorch3d":
        return
    if config.light.shadows:
        raise ReconError("key 'light.shadows': with render.backend 'pytorch3d' there are none; expected 'torch'")
    require_pytorch3d()
    if config.loss.silhouette > 0 and not config.render.antialias and config.background != "none":
        raise ReconError(
            "key 'loss.silhouette': with render.backend 'pytorch3d' and hard outlines its alpha is not that of the "
            f"colours, so no background '{config.background}' fits behind them; set render.antialias or leave it 0"
        )


def check_crop(config: RunConfig, views: Views, path: Path) -> None:
    """Raise `ReconError` where the crop is larger than the images."""
    size = config.train.crop.size
    if size is not None and size > min(views.height, views.width):
        raise ReconError(
            f"key 'train.crop.size': {size} pixels, but the images of {path} are {views.width} x {views.height}"
        )


def check_light_of_views(config: RunConfig, views: Views, path: Path) -> None:
    """Raise `ReconError` where the place of the light is to be learned, or moves with what is learned, and known; or
    where shadows are asked for of a flash at the lens."""
    key = next((key for key in LIGHTS if getattr(views, key) is not None), None)
    if config.cameras.refine and key is not None:
        raise ReconError(f"{path}: has key '{key}', but 'cameras.refine' moves each flash with its camera")
    if config.light.offset and key is not None:
        raise ReconError(f"{path}: has key '{key}', so that there is no flash whose offset 'light.offset' could learn")
    if config.light.shadows and not config.light.offset and key is None:
        raise ReconError(
            "key 'light.shadows': a flash at the lens casts no shadow that it sees; expected 'light.offset' too, or "
            f"{' or '.join(LIGHTS)} in {path}"
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


def _outcome(model: Model, inputs: Inputs, errors: Mapping[str, float], progress: Progress) -> str | None:
    """What is wrong with a training that got nowhere; None where it got somewhere."""
    views = shrunk(inputs.views) if model.config.background == "field" else inputs.views
    fit = measured(model, views, inputs.sets[TRAINING_SET], errors[TRAINING_SET])
    return outcome(fit, model.config, inputs.views, progress.iteration)


def albedo_found(model: Model) -> str:
    """What a training found out of the albedo: whether the surface has more than one."""
    return "one for the whole surface" if model.reflectance.uniform else "varies over the surface"


def _farewell(
    run: RunFolder,
    views: Path,
    validation: Mapping[str, Path],
    progress: Progress,
    errors: Mapping[str, float],
    albedo: str,
) -> str:
    sets = " ".join(f"{name}={path}" for name, path in {TRAINING_SET: views, **validation}.items())
    rows = [
        ("trained", f"{progress.iteration} iterations in {clock(progress.seconds)}{_cut_by_the_clock(progress)}"),
        ("error", "  ".join(f"{name} {error:.4f}" for name, error in errors.items())),
        ("albedo", albedo),
        ("mesh", f"{run.file(MESH_PLY)}  {run.file(MESH_GLB)}"),
        ("model", str(run.file(MODEL))),
        ("history", f"{run.file(HISTORY)}  {run.file(CHECKS)}"),
        ("MLflow", tracking_uri()),
        ("", ""),
        ("measure", f"recon validate --run {run.path} --views {sets} --out {run.validation.path}"),
        ("look", f"recon view {run.path}"),
    ]
    return panel("recon", rows)


def _cut_by_the_clock(progress: Progress) -> str:
    """What to add where a time limit left fewer iterations than the configuration has: on a faster or idle machine
    the same command gives another result."""
    if progress.budget is None or progress.iteration >= progress.iterations:
        return ""
    return f", cut by --max-minutes: {progress.iterations} are configured"
