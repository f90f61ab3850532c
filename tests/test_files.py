"""Files appear whole or not at all; archives are read or told apart in one line."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from recon.errors import ReconError
from recon.files import atomic, read_npz, remove_leftovers, writable_folder


def test_atomic_writes_whole_with_the_suffix_kept(tmp_path: Path) -> None:
    with atomic(tmp_path / "deep" / "a.txt") as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("hello")
        assert not (tmp_path / "deep" / "a.txt").exists()
    assert (tmp_path / "deep" / "a.txt").read_text() == "hello"
    assert os.listdir(tmp_path / "deep") == ["a.txt"]


def test_atomic_leaves_the_old_file_and_nothing_else_after_an_error(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_outputs_are_readable_by_colleagues(tmp_path: Path) -> None:
    with atomic(tmp_path / "a") as temporary:
        temporary.write_text("")
    plain = tmp_path / "b"
    plain.write_text("")
    assert (tmp_path / "a").stat().st_mode == plain.stat().st_mode


def test_writing_leaves_the_umask_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It belongs to the process: another thread's file would be born with the permissions of nobody's choice."""

    def forbidden(mask: int) -> int:
        raise AssertionError("os.umask changes the process")

    monkeypatch.setattr(os, "umask", forbidden)
    thread = threading.Thread(target=lambda: (tmp_path / "b").write_text(""))
    with atomic(tmp_path / "a.txt") as temporary:
        thread.start()
        thread.join()
        temporary.write_text("")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_only_recon_s_own_leftovers_are_removed(tmp_path: Path) -> None:
    """A person's `.notes-20261127.md` once looked like one."""
    kept = {
        ".notes-20261127.md",
        ".state-ab12cd_x.pt",
        ".a.recon-partial-notes.txt",
        "a.recon-partial-0123456789abcdef.pt",
    }
    for name in kept:
        (tmp_path / name).touch()
    for name in ("state.pt", "mesh", ".bashrc"):
        with pytest.raises(KeyboardInterrupt), atomic(tmp_path / name) as temporary:
            os.link(temporary, tmp_path / "x")
            raise KeyboardInterrupt
        os.rename(tmp_path / "x", temporary)  # as a killed writer leaves it
    assert len(list(tmp_path.iterdir())) == len(kept) + 3
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_a_file_in_the_way_of_a_folder_is_one_line(tmp_path: Path) -> None:
    blocker = tmp_path / "blocker"
    blocker.write_text("")
    with pytest.raises(ReconError, match="blocker.*cannot be written"), atomic(blocker / "out.npz"):
        pass
    with pytest.raises(ReconError, match="cannot be written as a folder"):
        writable_folder(blocker)
    assert writable_folder(tmp_path / "new" / "folder").is_dir()


def test_read_npz_returns_what_was_saved(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(3), text=np.array("hi"))
    arrays = read_npz(tmp_path / "a.npz")
    assert sorted(arrays) == ["text", "x"]
    assert arrays["x"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "flipped", "npy", "text", "pickle", "folder"])
def test_damaged_archives_are_one_line_that_names_the_file(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).random(1000))
    data = path.read_bytes()
    match damage:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "truncated":
            path.write_bytes(data[: len(data) // 2])
        case "flipped":
            path.write_bytes(data[:2000] + bytes(255 - b for b in data[2000:2100]) + data[2100:])
        case "npy":
            with open(path, "wb") as file:
                np.save(file, np.zeros(3))
        case "text":
            path.write_text("not an archive")
        case "pickle":
            np.savez(path, x=np.array([{}], dtype=object))
        case "folder":
            path.unlink()
            path.mkdir()
    with pytest.raises(ReconError, match=r"a\.npz: ") as caught:
        read_npz(path)
    assert "\n" not in str(caught.value)
