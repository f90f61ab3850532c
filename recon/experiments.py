"""The table of experiments: one training run a row, dotted configuration keys as columns.

Snakemake reads the table through this module before it plans a job, so it imports neither torch nor
numpy. Snakemake's own `Paramspace` writes every column into the path: a renamed run would be another
file, and a dotted key is no wildcard. Here the path holds the row's identity (`recon.identity`).
"""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from recon.config import RunConfig, Section, known_instead, known_keys, overrides
from recon.errors import ReconError
from recon.identity import row_identity
from recon.run_folder import RESERVED_EXPERIMENTS, RESERVED_SCENES, RESERVED_SETS

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


def _none_of(reserved: Sequence[str]) -> AfterValidator:
    def check(name: str) -> str:
        if name in reserved:
            raise PydanticCustomError("reserved", "the name is taken by the workflow itself")
        return name

    return AfterValidator(check)


# Names become parts of paths: no separators, no leading dot or dash.
Name = Annotated[str, Field(pattern=NAME, max_length=100)]
Scene = Annotated[Name, _none_of(RESERVED_SCENES), Field(json_schema_extra={"not": {"enum": list(RESERVED_SCENES)}})]
SetName = Annotated[Name, _none_of(RESERVED_SETS), Field(json_schema_extra={"not": {"enum": list(RESERVED_SETS)}})]
ExperimentName = Annotated[
    Name, _none_of(RESERVED_EXPERIMENTS), Field(json_schema_extra={"not": {"enum": list(RESERVED_EXPERIMENTS)}})
]


class RowConfig(Section):
    """The columns of the table beside the training keys."""

    experiment: ExperimentName = Field(description="name of the run and its folder; renaming does not retrain")
    scene: Scene | None = Field(None, description="the one scene that the row is for; empty: every scene")
    max_minutes: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="wall clock of this training; empty: that of `config.yaml`, but none where the row"
        " sets `train.iterations`",
    )
    threads: int | None = Field(None, ge=1, description="threads of this training; empty: those of `config.yaml`")
    mem_mb: int | None = Field(None, ge=1, description="memory that a cluster is asked for; empty: the rule's")
    runtime: int | None = Field(None, ge=1, description="minutes that a cluster is asked for; empty: the rule's")


@dataclass(frozen=True)
class Experiment:
    """A checked row of the table."""

    row: RowConfig
    config: RunConfig
    counts_iterations: bool = False

    @property
    def name(self) -> str:
        """Of the run, and of its folder."""
        return self.row.experiment

    def runs_on(self, scene: str) -> bool:
        """Whether the row is for this scene."""
        return self.row.scene in (None, scene)

    def max_minutes(self, default: float | None) -> float | None:
        """The wall clock of the training; a row that counts iterations has none unless it says so."""
        if self.row.max_minutes is not None:
            return self.row.max_minutes
        return None if self.counts_iterations else default

    def identity(self, default_minutes: float | None) -> str:
        """Names the folder of the training (`recon.identity`)."""
        return row_identity(self.config, self.max_minutes(default_minutes))

    def overrides(self) -> list[str]:
        """`key=value` of what is not at its default, for `recon train --set`."""
        return overrides(self.config)


def read_experiments(path: str | Path) -> list[Experiment]:
    """The rows of the tab-separated table `path`; an empty cell is a key left at its default.

    Lines that are empty or start with `#` are left out.

    Raises:
        ReconError: the table cannot be read or has no rows; a column is unknown or there twice; a cell
            is bad; a name is given twice for a scene. The line names row and column.
    """
    lines = _cells(path)
    header = next(lines, None)
    if header is None:
        raise ReconError(f"{path}: has no columns; 'experiment' and configuration keys were expected")
    columns = header[1]
    _check_columns(path, columns)
    experiments: dict[str, Experiment] = {}
    numbers: dict[str, int] = {}
    for number, cells in lines:
        name = dict(zip(columns, cells, strict=False)).get("experiment", "")
        where = f"{path}: line {number} (experiment '{name}')"
        experiment = _experiment(where, columns, cells)
        key = f"{experiment.row.scene or ''}/{experiment.name}"
        if key in experiments:
            raise ReconError(f"{where}, column 'experiment': the name is already that of line {numbers[key]}")
        experiments[key], numbers[key] = experiment, number
    if not experiments:
        raise ReconError(f"{path}: has no rows; one training run a row was expected")
    _check_general_names(path, experiments.values(), numbers)
    return list(experiments.values())


def check_watched_sets(path: str | Path, experiments: Iterable[Experiment], measured: Sequence[str]) -> None:
    """Raise `ReconError` where a row's early stopping watches a viewpoint set that is not `measured`."""
    for experiment in experiments:
        name = experiment.config.train.early_stopping.set
        if name is not None and name not in measured:
            raise ReconError(
                f"{path}: experiment '{experiment.name}', column 'train.early_stopping.set':"
                f" no viewpoint set '{name}' is measured; there are: {', '.join(measured)}"
            )


def _cells(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every line that says something."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            for number, line in enumerate(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE), start=1):
                cells = [cell.strip() for cell in line]
                if any(cells) and not cells[0].startswith("#"):
                    yield number, cells
    except OSError as error:
        raise ReconError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ReconError(f"{path}: not a table of text separated by tabs: {error}") from None


def _check_columns(path: str | Path, columns: Sequence[str]) -> None:
    known = [*RowConfig.model_fields, *known_keys()]
    for i, column in enumerate(columns):
        if column in columns[:i]:
            raise ReconError(f"{path}: column '{column}' is there twice")
        if column not in known:
            hint = " (columns are separated by tabs)" if " " in column else ""
            raise ReconError(f"{path}: unknown column '{column}'{hint}; {known_instead(column, known)}")
    if "experiment" not in columns:
        raise ReconError(f"{path}: column 'experiment', the name of each run, is missing")


def _experiment(where: str, columns: Sequence[str], cells: Sequence[str]) -> Experiment:
    if len(cells) > len(columns):
        raise ReconError(f"{where}: has {len(cells)} cells; the table has {len(columns)} columns")
    values = {key: _value(where, key, cell) for key, cell in zip(columns, cells, strict=False) if cell}
    row = {key: value for key, value in values.items() if key in RowConfig.model_fields}
    try:
        config = RunConfig.model_validate(_nested(values.keys() - row.keys(), values))
        return Experiment(RowConfig(**row), config, counts_iterations="train.iterations" in values)
    except ValidationError as error:
        raise ReconError(f"{where}, {_explain(error, columns)}") from None


def _value(where: str, key: str, cell: str) -> Any:
    if key in ("experiment", "scene"):
        return cell  # a run may be called 12 or yes
    try:
        return yaml.safe_load(cell)
    except yaml.YAMLError:
        raise ReconError(f"{where}, column '{key}': not a YAML value: {cell!r}") from None


def _nested(keys: Iterable[str], values: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key in keys:
        *sections, leaf = key.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[leaf] = values[key]
    return tree


def _explain(error: ValidationError, columns: Sequence[str]) -> str:
    """Column and expectation; the place inside a list belongs to the value, not to the column."""
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"]]
    column = next(
        (name for size in range(len(parts), 0, -1) if (name := ".".join(parts[:size])) in columns), ".".join(parts)
    )
    got = f", got {first['input']!r}" if isinstance(first["input"], str | int | float | list | None) else ""
    return f"column '{column}': {first['msg'][0].lower()}{first['msg'][1:]}{got}"


def _check_general_names(path: str | Path, experiments: Iterable[Experiment], numbers: Mapping[str, int]) -> None:
    """A row for every scene and one for a single scene would share a folder."""
    for experiment in experiments:
        general = numbers.get(f"/{experiment.name}")
        if experiment.row.scene is not None and general is not None:
            number = numbers[f"{experiment.row.scene}/{experiment.name}"]
            raise ReconError(
                f"{path}: line {number} (experiment '{experiment.name}'), column 'experiment':"
                f" line {general} has this name for every scene"
            )
