"""What is written about recon in several places is the same in all."""

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

OTHER_NAMES = {"matplotlib-base": "matplotlib", "pytorch": "torch"}
"""What conda-forge calls some packages."""

OUTSIDE = {"snakemake"}
"""It makes the environment of the rules, and is not in it."""


def bounds(requirement: str) -> tuple[str, str]:
    """The name of a package, as packages are compared, and the versions that are wanted."""
    found = re.match(r"([A-Za-z0-9_.-]+?)\s*([<>=!~].*)?$", requirement.split(";")[0].strip())
    assert found is not None, requirement
    name = re.sub(r"[-_.]+", "-", found[1]).lower()
    return OTHER_NAMES.get(name, name), (found[2] or "").replace(" ", "")


def conda_environment() -> dict[str, str]:
    tree: dict[str, Any] = yaml.safe_load((ROOT / "workflow/envs/recon.yaml").read_text())
    plain = [entry for entry in tree["dependencies"] if isinstance(entry, str)]
    (pip,) = (entry["pip"] for entry in tree["dependencies"] if isinstance(entry, dict))
    return dict(map(bounds, [*plain, *pip]))


def test_the_workflows_environment_has_every_dependency_in_the_same_versions() -> None:
    """A rule under `--sdm conda` gets recon without its dependencies: what lacks there fails at its first import."""
    there = conda_environment()
    for name, versions in map(bounds, [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["colmap"]]):
        assert name in OUTSIDE or there.get(name) == versions, f"{name}{versions} in workflow/envs/recon.yaml"
    assert there["python"] == PROJECT["requires-python"]


def test_every_dependency_is_pinned_to_a_version_that_it_may_have() -> None:
    """`make setup` installs what was tested."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = {name: version.removeprefix("==") for name, version in map(bounds, lines)}

    def parts(version: str) -> list[int]:
        return [int(part) for part in re.findall(r"\d+", version)]

    for name, versions in map(bounds, PROJECT["dependencies"]):
        lowest, _, below = versions.removeprefix(">=").partition(",<")
        assert parts(lowest) <= parts(pins[name]), name
        assert not below or parts(pins[name]) < parts(below), name


def test_the_citation_names_this_version_and_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["title"] == "recon"  # the distribution has another name, for this one is taken
    for key in ("version", "license"):
        assert citation[key] == PROJECT[key]
