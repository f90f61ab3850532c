"""What planning a sweep costs: 1,000 experiments on 4 viewpoint sets, as a dry run that executes nothing."""

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from recon.experiments import read_experiments

ROOT = Path(__file__).parents[1]
ROWS = 1000
SETS = ("front", "full", "above", "below")

LOCAL_RULES = ("all", "name", "tracking_store")
"""Those of the Snakefile's `localrules` that the plan has."""

PROFILE = ("--profile", str(ROOT / "profiles/slurm"))
ONE_JOB_A_RUN = (
    *("--groups", "extract=scene", "reference=scene", "train=run", "validate=run"),
    *("--set-resources", "train:slurm_partition=gpu", "validate:slurm_partition=gpu", "train:gpu=1"),
)


@dataclass(frozen=True)
class Plan:
    """A dry run: seconds and processor seconds of Snakemake, its peak memory in MiB, jobs by rule, groups."""

    seconds: float
    processor: float
    memory: float
    jobs: dict[str, int]
    groups: int

    def submitted(self, grouped: tuple[str, ...] = ()) -> int:
        """Jobs that a cluster gets, where the rules `grouped` are in groups."""
        single = (count for rule, count in self.jobs.items() if rule not in (*LOCAL_RULES, *grouped))
        return sum(single) + (self.groups if grouped else 0)


def sweep() -> str:
    with tempfile.TemporaryDirectory() as folder:
        few = plan(write_sweep(Path(folder) / "few", ROWS // 4), *PROFILE)
        project = write_sweep(Path(folder) / "many", ROWS)
        many = plan(project, *PROFILE)
        runs = plan(project, *PROFILE, *ONE_JOB_A_RUN)
        start = time.process_time()
        for row in read_experiments(project / "experiments.tsv"):
            row.identity(None)
        table = time.process_time() - start
    small = ("extract", "reference")
    return "\n".join(
        [
            f"sweep: {ROWS} experiments, {len(SETS)} viewpoint sets: {sum(many.jobs.values())} jobs planned in"
            f" {many.seconds:.0f} s ({many.processor:.0f} s of one processor), at most {many.memory:.0f} MiB",
            f"sweep: jobs submitted: {many.submitted()} without groups, {many.submitted(small)} with the profile's,"
            f" {runs.submitted((*small, 'train', 'validate'))} with training and validation in one",
            f"sweep: {ROWS // 4} experiments take {few.processor:.0f} s of one processor; what grows is Snakemake's"
            f" own book-keeping for each job: reading and hashing the table takes {table:.1f} s",
        ]
    )


def write_sweep(folder: Path, rows: int) -> Path:
    """A project whose table has `rows` rows, which differ in the seed."""
    scene = {"objects": [{"shape": "sphere", "radius": 0.6}], "sets": {name: {"count": 4} for name in SETS}}
    config = {"scenes": ["ball"], "source": "scenes/{scene}.yaml", "validation": list(SETS), "max_minutes": None}
    table = [f"seed{row}\t1\t{row}" for row in range(rows)]
    for name, text in {
        "scenes/ball.yaml": yaml.safe_dump(scene),
        "config/config.yaml": yaml.safe_dump(config | {"experiments": "experiments.tsv"}),
        "experiments.tsv": "\n".join(["experiment\tthreads\ttrain.seed", *table]) + "\n",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def plan(project: Path, *arguments: str) -> Plan:
    """Snakemake's plan for the report of `project`."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(project)]
    output = project / "plan.txt"
    start = time.monotonic()
    with output.open("w") as file:
        process = subprocess.Popen([*command, "--dry-run", *arguments], stdout=file, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - start
    text = output.read_text()
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(text[-2000:])
    table = text.split("Job stats:", 1)[1].split("total", 1)[0]
    jobs = {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}
    processor = usage.ru_utime + usage.ru_stime
    return Plan(seconds, processor, usage.ru_maxrss / 1024, jobs, text.count("Group job "))
