"""The configuration of the Snakemake workflow, and the files generated from the configuration models.

`python -m recon.workflow` writes the JSON schemas that the Snakefile checks `config/` against, and
the tables of keys in `config/README.md`; a test holds them to the models.
"""

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError
from pydantic.fields import FieldInfo

from recon.config import RunConfig, Section
from recon.errors import ReconError
from recon.experiments import RowConfig, Scene, SetName
from recon.files import atomic

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class WorkflowConfig(Section):
    """What `snakemake` runs: scenes, their viewpoint sets, and a table of experiments."""

    scenes: list[Scene] = Field(
        ["bunny"], min_length=1, json_schema_extra={"uniqueItems": True}, description="names of the scenes to run"
    )
    source: str = Field(
        "config/scenes/{scene}.yaml",
        description="what `recon extract` reads for a scene; may hold `{scene}` and `{set}`",
    )
    spheres: dict[Scene, tuple[float, float, float, Annotated[float, Field(gt=0)]]] = Field(
        {},
        description="of scenes of photographs: centre and radius of the sphere around the object, in the source's"
        " frame, such as `{vase: [0, 0, 1.2, 0.5]}`; scenes that are not named: found from the photographs",
    )
    markers: dict[Scene, Annotated[float, Field(gt=0)]] = Field(
        {},
        description="of scenes of photographs: millimetres along a side of a printed ArUco marker that they show, such"
        " as `{vase: 60}`; scenes that are not named: the scale is unknown",
    )
    size: int | None = Field(
        None,
        ge=16,
        le=4096,
        description="pixels along each side of the views that photographs become;"
        " empty: what they resolve, at most 512",
    )
    training: SetName | None = Field(
        None, description="viewpoint set that training fits; empty: a scene file's own `training_set`, or `front`"
    )
    validation: list[SetName] = Field(
        ["front", "full", "above", "below"],
        min_length=1,
        json_schema_extra={"uniqueItems": True},
        description="viewpoint sets to measure",
    )
    reference: str | None = Field(
        None,
        description="true mesh in the source's frame, to measure geometry against; may hold `{scene}`;"
        " empty: the objects of a scene file, and nothing for photographs",
    )
    experiments: str = Field(
        "config/experiments.tsv", description="table with one training run a row; its columns are the training keys"
    )
    max_minutes: float | None = Field(
        None, gt=0, description="wall clock of one training; empty: as many iterations as `train.iterations` says"
    )
    threads: int = Field(
        1, ge=1, description="threads of one training, at most the cores that Snakemake has; a network takes several"
    )
    tone: Literal["clamp", "scale"] = Field("clamp", description="what pictures show of a radiance above 1")
    tracking_uri: str | None = Field(
        None, description="MLflow store; empty: `MLFLOW_TRACKING_URI`, or else `sqlite:///results/mlflow.db`"
    )


def parse_workflow(tree: Mapping[str, Any]) -> WorkflowConfig:
    """Check the configuration of the workflow.

    Raises:
        ReconError: a key is unknown (the nearest known key is named) or its value is bad.
    """
    try:
        settings = WorkflowConfig.model_validate(tree)
    except ValidationError as error:
        raise ReconError(f"workflow configuration: {_explain(error)}") from None
    for key in ("scenes", "validation"):
        names = getattr(settings, key)
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            raise ReconError(f"workflow configuration: key '{key}': '{repeated}' is there twice")
    return settings


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(key, list(WorkflowConfig.model_fields), n=1, cutoff=0.0)
        return f"unknown key '{key}'; the nearest known key is '{nearest[0]}'"
    return f"key '{key}': {first['msg'][0].lower()}{first['msg'][1:]}, got {first['input']!r}"


def generated(root: Path) -> dict[Path, str]:
    """The contents that the generated files under the repository `root` must have."""
    manual = root / "config" / "README.md"
    schemas = root / "workflow" / "schemas"
    return {
        schemas / "config.schema.json": _json(workflow_schema()),
        schemas / "experiments.schema.json": _json(experiment_schema()),
        manual: _with_tables(manual.read_text()),
    }


def workflow_schema() -> dict[str, Any]:
    """JSON schema of `config/config.yaml`."""
    return {"$schema": DIALECT, **WorkflowConfig.model_json_schema()}


def experiment_schema() -> dict[str, Any]:
    """JSON schema of one row of the table of experiments: columns of its own, and dotted training keys."""
    columns = {key: _property(section, leaf) for key, section, leaf in _leaves(RunConfig)}
    return {
        "$schema": DIALECT,
        "title": "Experiment",
        "type": "object",
        "properties": RowConfig.model_json_schema()["properties"] | columns,
        "required": ["experiment"],
        "additionalProperties": False,
    }


def key_table(model: type[BaseModel]) -> str:
    """A Markdown table of the keys of `model`: name, default, range, meaning."""
    rows = ["| key | default | values | meaning |", "| --- | --- | --- | --- |"]
    for key, section, leaf in _leaves(model):
        field = section.model_fields[leaf]
        rows.append(
            f"| `{key}` | {_default(field)} | {_values(_property(section, leaf))} | {_escape(field.description)} |"
        )
    return "\n".join(rows)


def _default(field: FieldInfo) -> str:
    return "required" if field.is_required() else f"`{json.dumps(field.get_default(call_default_factory=True))}`"


def _escape(text: str | None) -> str:
    return (text or "").replace("|", r"\|")


def _leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel], str]]:
    """Dotted key, section and own name of every key that is no section."""
    for name, field in model.model_fields.items():
        section = _section(field)
        if section is None:
            yield f"{prefix}{name}", model, name
        else:
            yield from _leaves(section, f"{prefix}{name}.")


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _property(section: type[BaseModel], leaf: str) -> dict[str, Any]:
    return section.model_json_schema()["properties"][leaf]


def _values(schema: dict[str, Any]) -> str:
    """The type and range of a key, in words."""
    if "anyOf" in schema:
        return " or ".join(_values(option) for option in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    words = {"null": "empty", "array": "list", "object": "mapping"}.get(schema["type"], schema["type"])
    if "items" in schema:
        words += f" of {_values(schema['items'])}"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
    return " ".join([words, ", ".join(bounds)]).strip()


def _with_tables(text: str) -> str:
    """`text` with the tables between its markers brought up to date."""
    for model in (WorkflowConfig, RowConfig, RunConfig):
        marker = re.escape(f"<!-- keys of {model.__name__} -->")
        end = re.escape("<!-- end -->")
        table = key_table(model)
        text = re.sub(
            f"({marker}\n).*?({end})", lambda match: f"{match[1]}\n{table}\n\n{match[2]}", text, flags=re.DOTALL
        )
    return text


def _json(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for path, content in generated(Path.cwd()).items():
        with atomic(path) as temporary:
            temporary.write_text(content)
