"""The shader beside a path tracer: Mitsuba 3, from PyPI, where it is installed (the extra `truth`)."""

import importlib.util

import pytest

from benchmarks.shader import Difference, differences
from benchmarks.shapes import star

if importlib.util.find_spec("mitsuba") is None:
    pytest.skip("Mitsuba is missing: pip install -e '.[truth]'", allow_module_level=True)


@pytest.fixture(scope="module")
def found() -> list[Difference]:
    """In small pictures of a coarse mesh: the figures of docs/relighting.md are of larger ones."""
    return list(differences(star(4), 96, 16))


def test_diffuse_surfaces_agree_with_a_path_tracer(found: list[Difference]) -> None:
    means = [each.mean for each in found if each.material == "diffuse"]
    assert len(means) == 2 and max(means) < 0.01


def test_glossy_surfaces_agree_with_a_path_tracer(found: list[Difference]) -> None:
    means = [each.mean for each in found if each.material != "diffuse"]
    assert len(means) == 10 and max(means) < 0.02
