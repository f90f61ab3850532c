"""Rows of the table that need PyTorch3D, planned and not run: `make test-pytorch3d` runs one."""

from pathlib import Path

from project import snakemake, write_project

from recon.environment import pytorch3d_command

HEADER = "experiment\trender.backend\ttrain.iterations\ttrain.levels\n"


def test_rows_that_need_pytorch3d_are_left_out_where_there_is_none(tmp_path: Path) -> None:
    folder = write_project(tmp_path, HEADER + "ours\t\t6\t[2]\ntheirs\tpytorch3d\t6\t[2]\n")
    planned = snakemake(folder, "--dry-run", "--printshellcmds")
    assert planned.returncode == 0, planned.stdout
    there = pytorch3d_command()
    assert "Training ours on ball" in planned.stdout
    assert ("Training theirs on ball" in planned.stdout) == (there is not None)
    assert ("Left out, as PyTorch3D is not installed (make pytorch3d): theirs" in planned.stdout) == (there is None)
    if there is not None:
        assert f"{there} train --name ball/theirs" in planned.stdout
        assert f"{there} validate" in planned.stdout


def test_a_table_of_nothing_else_says_what_is_missing(tmp_path: Path) -> None:
    planned = snakemake(write_project(tmp_path, HEADER + "theirs\tpytorch3d\t6\t[2]\n"), "--dry-run")
    assert (planned.returncode == 0) == (pytorch3d_command() is not None)
    if planned.returncode:
        assert "experiments.tsv: every row needs PyTorch3D, which is not installed: make pytorch3d" in planned.stdout
