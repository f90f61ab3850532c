"""What recon tells people to install is recon's own, and is there: `recon` on the public index is a stranger's."""

import re
import tomllib
from pathlib import Path

from recon import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FOLDERS = ("recon", "docs", "config", "workflow", "profiles", "benchmarks")
SUFFIXES = {".py", ".md", ".yaml", ".sh", ".smk", ".html", ".j2", ".js"}
TEXTS = {
    path: path.read_text()
    for path in [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "pyproject.toml")),
        *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES),
    ]
}


def requirement(text: str) -> tuple[str, set[str]]:
    """Name and extras of `name[extra,extra]>=1; …`."""
    name, extras = re.fullmatch(r"([\w.-]+)\s*(?:\[([^\]]*)\])?.*", text, re.DOTALL).groups()  # type: ignore[union-attr]
    return re.sub(r"[-_.]+", "-", name).lower(), {extra.strip() for extra in (extras or "").split(",") if extra.strip()}


DEPENDENCIES = {
    requirement(text)[0]
    for text in [
        *PROJECT["dependencies"],
        *(text for extra in PROJECT["optional-dependencies"].values() for text in extra),
    ]
}


def hints() -> list[tuple[str, str]]:
    """File and what it installs, of every `pip install` in code and documentation."""
    found = []
    for path, text in TEXTS.items():
        for line in re.findall(r"pip install ([^\n]*)", text):
            # Up to where the command ends in a sentence, a Markdown code span or a string.
            command = re.split(r"[`();]|\\n| in recon|\"$|\" ", line)[0]
            words = re.findall(r"'[^']*'|\"[^\"]*\"|\S+", command)
            skip = False
            for word in (word.strip("'\"") for word in words):
                if word.startswith("-"):
                    skip = word in ("-c", "--constraint", "-r")
                elif skip:
                    skip = False
                else:
                    found.append((f"{path.relative_to(ROOT)}: {line}", word))
    return found


def test_the_distribution_is_not_called_like_a_stranger_s() -> None:
    assert PROJECT["name"] == "recon-flash"
    extras = PROJECT["optional-dependencies"].values()
    assert "recon" not in {requirement(text)[0] for text in [*PROJECT["dependencies"], *(t for e in extras for t in e)]}


def test_every_install_hint_names_what_is_there() -> None:
    found = hints()
    assert len(found) >= 8
    for where, word in found:
        if word.startswith("."):
            name, extras = PROJECT["name"], requirement(f"x{word[1:]}")[1]
        elif word.startswith("${RECON_SOURCE"):
            continue
        else:
            name, extras = requirement(word)
        assert name == PROJECT["name"] or name in DEPENDENCIES, where
        assert extras <= set(PROJECT["optional-dependencies"]), where
        assert not extras or name == PROJECT["name"], where


def test_nothing_asks_the_index_for_recon() -> None:
    for path, text in TEXTS.items():
        assert not re.search(r"(?<![\w-])recon\[[a-z]+[\],]", text), path


def test_the_code_and_the_distribution_have_one_version() -> None:
    assert PROJECT["version"] == __version__
