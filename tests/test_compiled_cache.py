"""Where compiled loops are kept."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recon.render.compiled import cache


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for pattern in (*cache.LOOPS, *cache.CONSTANTS):
        for path in cache.PACKAGE.glob(pattern):
            target = tmp_path / path.relative_to(cache.PACKAGE)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return tmp_path


def test_it_changes_with_every_file_that_loops_are_made_of(package: Path) -> None:
    names = {cache.folder(package)}
    assert {each.name for each in names} == {cache.folder().name}
    changed = ["render/compiled/vectors.py", "background/compiled.py", "model/compiled.py", *cache.CONSTANTS]
    for name in changed:
        (package / name).write_text((package / name).read_text() + "# changed\n")
        names.add(cache.folder(package))
    assert len(names) == 1 + len(changed)


def test_every_module_that_gives_loops_a_number_counts() -> None:
    """Constants are what a compiled module imports in capitals from a module that is none."""
    found = set()
    for pattern in cache.LOOPS:
        for path in cache.PACKAGE.glob(pattern):
            for line in path.read_text().splitlines():
                module, _, names = line.removeprefix("from recon.").partition(" import ")
                numbers = [name for name in names.split(", ") if name.isupper()]
                if line.startswith("from recon.") and numbers and "compiled" not in module:
                    found.add(module.replace(".", "/") + ".py")
    assert found <= set(cache.CONSTANTS) and found


def kept(place: str | None) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    code = "import recon.render.compiled, numba; print(numba.config.CACHE_DIR)"
    environment |= {} if place is None else {"NUMBA_CACHE_DIR": place}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment, check=True
    ).stdout.strip()


def test_a_person_may_say_another_place(tmp_path: Path) -> None:
    assert kept(None) == str(cache.folder())
    assert kept(str(tmp_path)) == str(tmp_path)


def test_what_was_kept_of_other_loops_goes(monkeypatch: pytest.MonkeyPatch, package: Path) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(cache.config, "CACHE_DIR", cache.config.CACHE_DIR)
    monkeypatch.setattr(cache, "folder", lambda: package / "__pycache__" / "numba-new")
    for name in ("numba-old", "numba-new", "other"):
        (package / "__pycache__" / name).mkdir(parents=True)
    cache.keep_by_content()
    assert sorted(each.name for each in (package / "__pycache__").iterdir()) == ["numba-new", "other"]
