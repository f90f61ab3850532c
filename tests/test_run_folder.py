import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from recon import run_folder
from recon.run_folder import ARTIFACTS, MEASURED, RESERVED_SETS, TRAINED, RunFile, RunFolder

ROOT = Path(__file__).parents[1]
FILES = [value for value in vars(run_folder).values() if isinstance(value, RunFile)]


def strings(path: Path) -> Iterator[str]:
    """Every string of a module that is no docstring or comment."""
    tree = ast.parse(path.read_text())
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_files_name_is_written_once(file: RunFile) -> None:
    modules = [path for path in (ROOT / "recon").rglob("*.py") if path.name != "run_folder.py"]
    assert [path.name for path in modules if file.name in strings(path)] == []
    rules = [path for path in (ROOT / "workflow").rglob("*.smk") if file.name in path.read_text()]
    assert rules == []


def test_names_are_apart() -> None:
    names = [file.name for file in FILES]
    assert len(set(names)) == len(names)
    assert {"geometry", "certificate", "surface", "overshoot", "turntable", "relit"} <= set(RESERVED_SETS)
    assert all(file.writer == "train" for file in (*TRAINED, *ARTIFACTS))
    assert all(file.writer == "validate" for file in MEASURED)


def test_a_validation_knows_its_sets(tmp_path: Path) -> None:
    validation = RunFolder(tmp_path).validation
    validation.path.mkdir()
    for path in (validation.metrics("front"), validation.metrics("above"), *map(validation.file, MEASURED)):
        path.touch()
    assert validation.sets() == ["above", "front"]


def test_a_run_that_is_not_in_the_store_has_no_identifier(tmp_path: Path) -> None:
    assert RunFolder(tmp_path).run_id is None
    assert RunFolder(tmp_path).mesh is None
    assert not RunFolder(tmp_path).is_trained


def test_every_file_is_described_in_the_manual() -> None:
    manual = (ROOT / "docs" / "architecture.md").read_text()
    assert [file.name for file in FILES if f"`{file.name}`" not in manual] == []
