"""Photographs, masks and whatever else a source refers to are inputs: only a change of them starts anew."""

import json
import os
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from project import snakemake, write_project

from recon.capture.paths import arc
from recon.capture.source_files import source_files
from recon.errors import ReconError

SIZE = 24
EXPERIMENTS = "experiment\ttrain.iterations\ttrain.levels\ttrain.checkpoints\n"
JOBS = ("Extracting viewpoint set front", "Training whole", "Validating whole")


def write_photographs(folder: Path, name: str, count: int) -> None:
    """Masked pictures of a ball, and transforms_NAME.json beside them."""
    frames = []
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2
    disc = np.hypot(rows, columns) < 7
    shade = np.sqrt((1 - (rows**2 + columns**2) / 50).clip(0))
    for i, pose in enumerate(arc(count, 2.5, (-60.0, 60.0), (-10.0, 20.0))):
        entry = {"file_path": f"{name}/{i}", "mask_path": f"{name}/{i}_mask.png"}
        frames.append(entry | {"transform_matrix": (pose @ np.diag([1, -1, -1, 1])).tolist()})
        (folder / name).mkdir(parents=True, exist_ok=True)
        picture = np.repeat(np.round(200 * shade * disc).astype(np.uint8)[..., None], 3, axis=2)
        imageio.imwrite(folder / name / f"{i}.png", picture)
        imageio.imwrite(folder / name / f"{i}_mask.png", disc.astype(np.uint8) * 255)
    (folder / f"transforms_{name}.json").write_text(json.dumps({"fl_x": 30.0, "frames": frames}))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_project(
        tmp_path_factory.mktemp("photographs"),
        EXPERIMENTS + "whole\t4\t[2]\t1\n",
        source="photographs/{scene}/transforms_{set}.json",
        training="front",
        validation=["front", "test"],
    )
    for name, count in (("front", 4), ("test", 2)):
        write_photographs(folder / "photographs/ball", name, count)
    done = snakemake(folder)
    assert done.returncode == 0, done.stdout
    return folder


def planned(folder: Path) -> str:
    done = snakemake(folder, "--dry-run")
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("change", ["mask", "photograph", "suffix", "times"])
def test_changed_photographs_start_anew(finished: Path, change: str) -> None:
    folder = finished / "photographs/ball/front"
    path = folder / ("1_mask.png" if change == "mask" else "1.png")
    content, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    if change == "times":
        for each in (finished / "photographs").rglob("*"):
            os.utime(each)
    elif change == "suffix":
        path.unlink()
        imageio.imwrite(folder / "1.jpg", imageio.imread(content))
    else:
        imageio.imwrite(path, np.roll(imageio.imread(content), 3, axis=1))
    plan = planned(finished)
    (folder / "1.jpg").unlink(missing_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=times)
    if change == "times":
        assert "Nothing to be done" in plan
    else:
        assert all(job in plan for job in JOBS) and "index.html" in plan, plan


def test_a_broken_source_is_one_line_before_anything_starts(tmp_path: Path) -> None:
    folder = write_project(
        tmp_path, source="photographs/{scene}/transforms.json", training="front", validation=["front"]
    )
    (folder / "photographs/ball").mkdir(parents=True)
    (folder / "photographs/ball/transforms.json").write_text("{")
    done = snakemake(folder, "--dry-run")
    assert (
        done.returncode != 0
        and "transforms.json: not JSON: " in done.stdout
        and "most recent call last" not in done.stdout
    )


def test_what_sources_refer_to(tmp_path: Path) -> None:
    write_photographs(tmp_path / "a", "train", 2)
    path = tmp_path / "a" / "transforms_train.json"
    names = ["0.png", "0_mask.png", "1.png", "1_mask.png"]
    assert [file.name for file in source_files(path)] == names
    path.rename(path.with_name("transforms.json"))
    assert [file.name for file in source_files(tmp_path / "a")] == ["transforms.json", *names]
    (tmp_path / "a/train/1.png").unlink()
    assert "1.png" not in [file.name for file in source_files(tmp_path / "a")]
    for name in ("sparse/0/cameras.txt", "sparse/1/cameras.txt", "images/x/a.jpg", "masks/x/a.jpg.png", "other/b.txt"):
        (tmp_path / "b" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "b" / name).write_text("")
    found = [file.relative_to(tmp_path / "b").as_posix() for file in source_files(tmp_path / "b")]
    assert found == ["images/x/a.jpg", "masks/x/a.jpg.png", "sparse/0/cameras.txt", "sparse/1/cameras.txt"]
    assert source_files(tmp_path / "none.yaml") == [] and source_files(tmp_path) == []
    (tmp_path / "s.yaml").write_text("objects: 3")
    with pytest.raises(ReconError, match="s.yaml: key 'objects'"):
        source_files(tmp_path / "s.yaml")
