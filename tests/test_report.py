import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from runs import write_run, write_training

from recon.errors import ReconError
from recon.report.page import report, report_page


class Page(HTMLParser):
    """The page's tags, the text of its tables' cells, and of its scripts of JSON."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[tuple[str, str]] = []
        self.figures: dict[str, str] = {}
        self.text = ""
        self._inside: tuple[str, dict[str, str | None]] = ("", {})
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._inside = (tag, dict(attributes))
        self.tags.append(self._inside)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ("", {})

    def handle_data(self, data: str) -> None:
        tag, attributes = self._inside
        if tag == "script":
            if "data-figure" in attributes:
                key = str(attributes["data-figure"])
                self.figures[key] = self.figures.get(key, "") + data
        elif tag != "style":
            self.text += data
            if tag == "td" and data.strip():
                self.cells.append((attributes.get("class") or "", data.strip()))


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [write_run(tmp_path / "bunny" / "paper", 0.004), write_run(tmp_path / "bunny" / "slow", 0.003, 0.0005)]


def test_the_page_needs_nothing_else(runs: list[Path], tmp_path: Path) -> None:
    report(runs, tmp_path / "out")
    html = (tmp_path / "out" / "index.html").read_text()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["index.html"]
    addresses = [str(value) for _, tag in Page(html).tags for key, value in tag.items() if key in ("src", "href")]
    assert addresses and all(address.startswith("data:") for address in addresses)
    assert "default-src 'none'" in html
    assert len(html) < 25e6


def test_it_is_the_same_page_each_time(runs: list[Path]) -> None:
    assert report_page(runs) == report_page(runs)


def test_the_best_of_each_set_is_marked_and_published_losses_stand_beside(runs: list[Path]) -> None:
    page = Page(report_page(runs))
    assert ("best", "0.00300") in page.cells and ("best", "0.00600") in page.cells
    assert ("", "0.00400") in page.cells and ("", "0.00800") in page.cells
    assert ("", "0.00727") in page.cells and ("", "0.01483") in page.cells
    # The higher PSNR is the better one.
    assert ("best", "37.00") in page.cells and ("", "36.00") in page.cells


def test_one_run_has_no_best(runs: list[Path]) -> None:
    assert "best" not in {cell for cell, _ in Page(report_page(runs[:1])).cells}


def test_curves_show_all_runs_and_sets_on_a_log_scale(runs: list[Path]) -> None:
    figures = Page(report_page(runs)).figures
    for axis in ("iteration", "seconds"):
        figure = json.loads(figures[f"curves-{axis}"])
        assert [trace["name"] for trace in figure["data"]] == ["training", "front", "full"] * 2
        assert figure["layout"]["yaxis"]["type"] == "log"
        assert figure["layout"]["xaxis"]["title"]["text"] == axis


def test_every_run_has_its_mesh_certificate_and_pictures(runs: list[Path]) -> None:
    page = Page(report_page(runs))
    for i in range(2):
        mesh = json.loads(page.figures[f"mesh-{i}"])["data"][0]
        assert mesh["type"] == "mesh3d"
    assert page.text.count("watertight") == page.text.count("genus 0") == 2
    images = [tag for name, tag in page.tags if name == "img"]
    assert len(images) == 4
    assert all(tag["alt"] for tag in images)


def test_every_figure_is_described(runs: list[Path]) -> None:
    plots = [tag for _, tag in Page(report_page(runs)).tags if (tag.get("class") or "").startswith("plot")]
    assert len(plots) == 4
    assert all(tag["role"] == "img" and tag["aria-label"] for tag in plots)


def test_runs_are_told_apart_by_what_differs(runs: list[Path], tmp_path: Path) -> None:
    text = Page(report_page(runs)).text
    assert "train.learning_rate" in text and "train.seed" not in text
    other = write_run(tmp_path / "cat" / "paper")
    names = Page(report_page([runs[0], other])).text
    assert "bunny/paper" in names and "cat/paper" in names


def test_a_failed_certificate_shows(runs: list[Path]) -> None:
    path = runs[0] / "validation" / "certificate.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"self_intersections": 12, "genus": None}))
    html = report_page(runs)
    assert re.search(r'class="bad">12 self-intersections', html)
    assert re.search(r'class="bad">genus unknown', html)


def test_names_and_values_are_escaped(tmp_path: Path) -> None:
    run = write_run(tmp_path / "<script>alert(1)</script>")
    assert "<script>alert(1)" not in report_page([run])


def test_a_run_that_was_not_validated_yet(tmp_path: Path) -> None:
    run = write_training(tmp_path / "new")
    (run / "mesh.glb").unlink()
    (run / "validation.csv").write_text("")
    text = Page(report_page([run])).text
    assert "No run was validated yet" in text and "No mesh was written yet" in text


def test_metrics_that_only_some_runs_have(runs: list[Path]) -> None:
    path = runs[0] / "validation" / "front.json"
    mean = {"mean_absolute_error": 0.004, "psnr": 30.0, "ssim": None}
    path.write_text(json.dumps({"set": "front", "views": 6, "mean": mean}))
    assert ("", "–") in Page(report_page(runs)).cells


def test_bad_runs_are_named(runs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReconError, match="empty: not a training run: history.csv"):
        report([tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(ReconError, match="paper is given twice"):
        report([runs[0], runs[1], runs[0]], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("history.csv", "iteration,loss\n1,2\n", "history.csv: column 'seconds' is missing"),
        ("history.csv", "iteration,seconds,loss\n", "history.csv: has no rows yet"),
        ("history.csv", '"', "history.csv: not a readable table"),
        ("train.yaml", "a: [", "train.yaml: not YAML"),
        ("mesh.glb", "no mesh", "mesh.glb: not a readable .glb mesh"),
        ("validation/front.json", "{", "front.json: not readable JSON"),
        ("validation/front.json", "[]", "front.json: must hold a JSON object"),
        ("validation/front.json", "{}", "front.json: key 'mean'"),
        ("validation/front.png", "no picture", "front.png: not a readable picture"),
    ],
)
def test_bad_files_are_named(runs: list[Path], tmp_path: Path, file: str, content: str, message: str) -> None:
    (runs[0] / file).write_text(content)
    with pytest.raises(ReconError, match=message) as caught:
        report(runs, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
