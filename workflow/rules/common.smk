import json
import math
import os
import sys
from pathlib import Path

import pandas as pd
import yaml
from snakemake.utils import validate

validate(config, "../schemas/config.schema.json")


def read_experiments(path):
    """Training keys of every experiment; an empty cell is a key left at its default."""
    table = pd.read_csv(path, sep="\t", dtype=str, comment="#", keep_default_na=False)
    rows = [{key: yaml.safe_load(cell) for key, cell in row.items() if cell} for row in table.to_dict("records")]
    for row in rows:
        validate(row, "../schemas/experiments.schema.json", set_default=False)
    experiments = {row.pop("experiment"): row for row in rows}
    if len(experiments) < len(rows):
        raise WorkflowError(f"{path}: the names in the column 'experiment' must differ")
    return experiments


EXPERIMENTS = read_experiments(config["experiments"])
RUNS = expand("results/{scene}/{experiment}", scene=config["scenes"], experiment=EXPERIMENTS)

if config["tracking_uri"]:
    os.environ.update(MLFLOW_TRACKING_URI=config["tracking_uri"])

# The `recon` beside this Snakemake, also where its environment is not activated.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), os.getenv("PATH", "")]))

# Where workflow/envs/recon.post-deploy.sh finds recon.
os.environ.update(RECON_SOURCE=workflow.basedir)


wildcard_constraints:
    scene="[A-Za-z0-9][A-Za-z0-9._-]*",
    experiment="[A-Za-z0-9][A-Za-z0-9._-]*",
    set="[A-Za-z0-9][A-Za-z0-9._-]*",


def views(name):
    """The file of the viewpoint set `name`, for any scene."""
    return f"results/{{scene}}/views/{name}.npz"


def true_mesh():
    """What geometry is measured against, for any scene; empty where nothing is known."""
    declared = config["source"].endswith((".yaml", ".yml")) and "{set}" not in config["source"]
    return config["reference"] or ("results/{scene}/reference.ply" if declared else [])


def training_views(wildcards):
    """What the other sets take their frame and radiance scale from: the training set."""
    path = views(config["training"]).format(**wildcards)
    return [] if wildcards.set == config["training"] else path


def named_views(paths):
    """NAME=VIEWS for the commands."""
    return [f"{Path(path).stem}={path}" for path in paths]


def overrides(wildcards):
    """`--set` of the command for the experiment's row."""
    row = EXPERIMENTS[wildcards.experiment]
    return ["--set", *(f"{key}={json.dumps(value)}" for key, value in row.items())] if row else []


def budget():
    return [] if config["max_minutes"] is None else ["--max-minutes", config["max_minutes"]]


def training_minutes():
    """What a cluster's scheduler is asked for: the budget and its surroundings, or a day without one."""
    return 24 * 60 if config["max_minutes"] is None else math.ceil(config["max_minutes"]) + 15
