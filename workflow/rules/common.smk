import functools
import math
import os
import re
import sys
from pathlib import Path

# This checkout's recon reads the configuration, also where only the rules' environments have it installed.
sys.path.insert(0, workflow.basedir)

from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod

from recon.environment import pytorch3d_command
from recon.errors import ReconError
from recon.experiments import check_watched_sets, read_experiments
from recon.run_folder import MODEL, RESERVED_EXPERIMENTS, RESERVED_SCENES, TRAINED, RunFolder
from recon.resources import training_memory, validation_memory
from recon.workflow import parse_workflow

try:
    config.update(parse_workflow(config).model_dump(mode="json"))
    EXPERIMENTS = read_experiments(config["experiments"])
    check_watched_sets(config["experiments"], EXPERIMENTS, config["validation"])
except ReconError as error:
    raise WorkflowError(str(error)) from None

# PyTorch3D is in the rules' environment, or, without it, in one of its own that a person may have (make pytorch3d).
RULES_HAVE_PYTORCH3D = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
PYTORCH3D = "recon" if RULES_HAVE_PYTORCH3D else pytorch3d_command()


def needs_pytorch3d(row):
    return row.config.render.backend == "pytorch3d"


def runnable(rows):
    """The rows without those that need PyTorch3D, where there is none; a line names these."""
    left_out = [row.name for row in rows if needs_pytorch3d(row) and PYTORCH3D is None]
    if len(left_out) == len(rows):
        raise WorkflowError(
            f"{config['experiments']}: every row needs PyTorch3D, which is not installed: make pytorch3d"
        )
    if left_out and workflow.is_main_process:
        logger.warning(f"Left out, as PyTorch3D is not installed (make pytorch3d): {', '.join(left_out)}")
    return [row for row in rows if row.name not in left_out]


EXPERIMENTS = runnable(EXPERIMENTS)


class Plan:
    """Which rows run on which scenes, and where."""

    def __init__(self, experiments, max_minutes):
        self.experiments = experiments
        self.identities = [row.identity(max_minutes) for row in experiments]
        self.by_name = {}
        self.by_identity = {}
        for row, identity in zip(experiments, self.identities):
            self.by_name[row.row.scene, row.name] = row, identity
            self.by_identity.setdefault((row.row.scene, identity), row)

    def names(self, scene):
        return [row.name for row in self.experiments if row.runs_on(scene)]

    def identity(self, wildcards):
        """The folder under results/{scene}/runs of the experiment {experiment}."""
        return self._found(self.by_name, wildcards.scene, wildcards.experiment)[1]

    def experiment(self, wildcards):
        """The row that says how results/{scene}/runs/{identity} is trained."""
        return self._found(self.by_identity, wildcards.scene, wildcards.identity)

    def _found(self, table, scene, key):
        for place in ((scene, key), (None, key)):
            if place in table:
                return table[place]
        raise WorkflowError(f"{config['experiments']}: no row '{key}' for the scene '{scene}'")


PLAN = Plan(EXPERIMENTS, config["max_minutes"])

# A row that names no scene runs on all that other rows name: what these are compared with.
NAMED_SCENES = list(dict.fromkeys(row.row.scene for row in EXPERIMENTS if row.row.scene)) or config["scenes"]
PAGES = {"report": config["scenes"], "experiments": NAMED_SCENES}

if config["tracking_uri"]:
    os.environ.update(MLFLOW_TRACKING_URI=config["tracking_uri"])

# The `recon` beside this Snakemake, also where its environment is not activated.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), os.getenv("PATH", "")]))

# Where workflow/envs/recon.post-deploy.sh finds recon.
os.environ.update(RECON_SOURCE=workflow.basedir)


def except_for(reserved):
    """A pattern of names that leaves out those in `reserved`."""
    return f"(?!({'|'.join(map(re.escape, reserved))})(/|$))[A-Za-z0-9][A-Za-z0-9._-]*"


wildcard_constraints:
    scene=except_for(RESERVED_SCENES),
    experiment=except_for(RESERVED_EXPERIMENTS),
    identity="[0-9a-f]+",
    set="[A-Za-z0-9][A-Za-z0-9._-]*",
    page="report|experiments",


@functools.cache
def declared(source):
    """The training set that the scene file `source` names; None for other sources."""
    path = Path(source)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return None
    from recon.capture.scene import load_scene

    try:
        return load_scene(path).training_set
    except ReconError as error:
        raise WorkflowError(str(error)) from None


@functools.cache
def referred(source):
    """The files that `source` refers to: photographs, masks, models, meshes, keyframes, libraries."""
    from recon.capture.source_files import source_files

    try:
        return [str(path) for path in source_files(Path(source))]
    except ReconError as error:
        raise WorkflowError(str(error)) from None


def views(name):
    """The file of the viewpoint set `name`, for any scene."""
    return f"results/{{scene}}/views/{name}.npz"


def true_mesh():
    """What geometry is measured against, for any scene; empty where nothing is known."""
    declared = config["source"].endswith((".yaml", ".yml")) and "{set}" not in config["source"]
    return config["reference"] or ("results/{scene}/reference.ply" if declared else [])


def training_views(wildcards):
    """The viewpoint set that training fits: the configured one, or the one that the scene's file names."""
    name = config["training"]
    if name is None:
        # Where each set is a source of its own, no file speaks for the scene.
        named = None if "{set}" in config["source"] else declared(config["source"].format(**wildcards))
        name = named or "front"
    return views(name).format(**wildcards)


def like(wildcards):
    """What the other sets take their frame and radiance scale from: the training set."""
    path = training_views(wildcards)
    return [] if Path(path).stem == wildcards.set else path


def framing(wildcards):
    """`--sphere`, `--marker` and `--size` of the command; what other sets take from the training set is said once."""
    sphere, marker = (None if like(wildcards) else config[key].get(wildcards.scene) for key in ("spheres", "markers"))
    options = [f"--sphere={','.join(map(str, sphere))}"] if sphere else []
    options += [f"--marker={marker}"] if marker else []
    return options + ([f"--size={config['size']}"] if config["size"] else [])


def source(wildcards):
    return config["source"].format(**wildcards)


def source_file(wildcards):
    """The source, where it is a file. Of a folder what lies in it counts: its own time changes with any neighbour."""
    path = source(wildcards)
    return [] if Path(path).is_dir() else path


def source_parts(wildcards):
    """The files that the source refers to: the views are made again when one has changed."""
    return referred(source(wildcards))


def named_views(paths):
    """NAME=VIEWS for the commands."""
    return [f"{Path(path).stem}={path}" for path in paths]


# A run is trained and measured in a folder that is called by its identity, and copied to one called by its name.
RUN = "results/{scene}/runs/{identity}"
EXPERIMENT = "results/{scene}/{experiment}"
BESIDE_MODEL = [file.name for file in TRAINED if file != MODEL]


def run_of(wildcards):
    """The folder of the training that the experiment {experiment} stands for."""
    return RUN.format(scene=wildcards.scene, identity=PLAN.identity(wildcards))


def named_runs(wildcards):
    """The folders of the experiments on a page."""
    pairs = [(scene, name) for scene in PAGES[wildcards.page] for name in PLAN.names(scene)]
    return [EXPERIMENT.format(scene=scene, experiment=name) for scene, name in pairs]


def overrides(wildcards):
    """`--set` of the command for the experiment's row."""
    changed = PLAN.experiment(wildcards).overrides()
    return ["--set", *changed] if changed else []


def command(wildcards):
    """The `recon` that has the renderer of the experiment's row."""
    return PYTORCH3D if needs_pytorch3d(PLAN.experiment(wildcards)) else "recon"


def budget(wildcards):
    minutes = PLAN.experiment(wildcards).max_minutes(config["max_minutes"])
    return [] if minutes is None else ["--max-minutes", minutes]


def training_minutes(wildcards):
    """What a cluster's scheduler is asked for: the budget and its surroundings, or a day without one.

    A second attempt asks for no more, because it goes on where the first was stopped.
    """
    row = PLAN.experiment(wildcards)
    minutes = row.max_minutes(config["max_minutes"])
    return row.row.runtime or (24 * 60 if minutes is None else math.ceil(minutes) + 15)


def for_training(wildcards, input, attempt):
    """MB that a scheduler is asked for: the row's, or an estimate from the views; as much again for a retry."""
    row = PLAN.experiment(wildcards)
    return attempt * (row.row.mem_mb or training_memory(Path(input.views), row.config))


def for_validation(wildcards, input, attempt):
    """Likewise; the row speaks of its training alone."""
    return attempt * validation_memory(Path(input.views[0]), PLAN.experiment(wildcards).config)


def training_threads(wildcards):
    return PLAN.experiment(wildcards).row.threads or config["threads"]


def more(amount):
    """`amount` of a resource, and as much again for each attempt that failed."""
    return lambda wildcards, attempt: amount * attempt
