"""How many threads a process takes."""

import pytest
import torch

import recon.processor as processor
from recon.config import load_config
from recon.processor import loop_threads, settle_on_cpu


@pytest.fixture
def torchs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What torch was told, in a process that was given four threads."""
    told: list[int] = []
    monkeypatch.setattr(processor, "_for_loops", None)
    monkeypatch.setattr(processor, "_given_threads", lambda: 4)
    monkeypatch.setattr(processor, "_keep_freed_memory", lambda: None)
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    return told


@pytest.mark.parametrize(
    ("options", "size", "loops", "of_torch"),
    [
        ([], 512, 4, [1]),
        ([], 100, 1, [1]),
        (["render.samples=4"], 256, 4, [1]),
        (["background=field"], 512, 4, [1]),
        (["background=field", "field.representation=mlp"], 512, 4, []),
        (["background=field"], 100, 1, [1]),
        (["light.offset=true", "light.shadows=true"], 512, 4, []),
        (["render.backend=pytorch3d"], 512, 4, []),
        (["surface.representation=mlp"], 100, 1, []),
    ],
)
def test_loops_take_many_threads_for_large_pictures_and_torch_one_where_its_work_is_small(
    torchs: list[int], options: list[str], size: int, loops: int, of_torch: list[int]
) -> None:
    settle_on_cpu(load_config(None, options), size, size)
    assert (loop_threads(), torchs) == (loops, of_torch)


def test_what_was_given_is_kept_for_large_pictures_after_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = [3]
    monkeypatch.setattr(processor, "_for_loops", None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    processor._given_threads.cache_clear()
    settle_on_cpu(load_config(None), 100, 100)
    settle_on_cpu(load_config(None), 512, 512)
    assert (loop_threads(), threads) == (3, [3, 1, 1])
    processor._given_threads.cache_clear()


def test_before_anything_is_settled_loops_take_as_many_as_torch(torchs: list[int]) -> None:
    assert loop_threads() == torch.get_num_threads()
