from pathlib import Path

import pytest
from shapes import sphere_views

from recon.config import load_config
from recon.errors import ReconError
from recon.resources import Size, size_of, training_memory, validation_memory
from recon.views import save_views


@pytest.fixture
def views(tmp_path: Path) -> Path:
    save_views(sphere_views(3, 16), tmp_path / "views.npz")
    return tmp_path / "views.npz"


def test_the_size_is_read_from_the_head_of_the_file(views: Path) -> None:
    assert size_of(views) == Size(3, 16, 16)


def test_views_that_are_not_there_yet_are_missing_and_others_are_bad(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        size_of(tmp_path / "views.npz")
    (tmp_path / "views.npz").write_text("no archive")
    with pytest.raises(ReconError, match="views.npz: not a viewpoint set"):
        size_of(tmp_path / "views.npz")


def test_more_pixels_views_and_levels_take_more(views: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(size: Size, *options: str) -> tuple[int, int]:
        monkeypatch.setattr("recon.resources.size_of", lambda _: size)
        config = load_config(None, options)
        return training_memory(views, config), validation_memory(views, config)

    small = asked(Size(30, 100, 100))
    assert all(memory < 1100 for memory in small)
    large = asked(Size(48, 512, 512), "train.levels=[5,6]")
    # 3.3 GiB were measured for training.
    assert 3400 < large[0] < 5000
    twice = asked(Size(96, 512, 512), "train.levels=[5,6]")
    # A validation reads views from their file, a few at a time.
    assert twice[0] > large[0] and twice[1] == large[1]
    # 1.1 GiB were measured, with a glossy layer 1.5.
    assert 1200 < large[1] < 1600
    assert asked(Size(48, 512, 512), "train.levels=[5,6]", "reflectance=microfacet")[1] > 1600
    for more in (
        asked(Size(48, 512, 512), "train.levels=[7]"),
        asked(Size(48, 512, 512), "train.levels=[5,6]", "render.samples=4"),
        asked(Size(48, 1024, 1024), "train.levels=[5,6]"),
    ):
        assert more[0] > large[0] and more[1] > large[1]
