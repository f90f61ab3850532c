import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import yaml
from runs import VIEWS, publish, write_run, write_training

from recon.errors import ReconError
from recon.report import page as page_module
from recon.report.page import embedded_json, report, report_page
from recon.report.payload import Payload, restored
from recon.report.records import load_records
from recon.report.sprite_sheet import LOSSLESS, gallery_files, sprite_sheets
from recon.report.tables import number
from recon.report.three import threejs
from recon.tracking.record import Record


class Page(HTMLParser):
    """The page's tags, the text of its tables' cells, and of its scripts by what they are called."""

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
            key = attributes.get("data-figure") or attributes.get("id") or ""
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
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"index.html", "figures"}
    addresses = [str(value) for _, tag in Page(html).tags for key, value in tag.items() if key in ("src", "href")]
    assert addresses and all(address.startswith(("data:", "#")) for address in addresses)
    policy = next(str(tag["content"]) for _, tag in Page(html).tags if tag.get("http-equiv"))
    assert "default-src 'none'" in policy and "connect-src 'none'" in policy
    assert len(html) < 25e6


def test_it_is_the_same_page_each_time(runs: list[Path]) -> None:
    assert report_page(runs) == report_page(runs)


def test_a_run_that_the_clock_cut_is_marked(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its numbers depend on what else the machine did. Runs by iterations, and longer ones, have no mark."""
    (runs[0] / "checkpoints").mkdir(exist_ok=True)
    record = Record("run", "recon", 0, params={"max_minutes": "6.0"})
    for planned, marked in ((100_000, True), (2, False)):
        config = yaml.safe_load((runs[0] / "train.yaml").read_text()) or {}
        config.setdefault("train", {})["iterations"] = planned
        (runs[0] / "train.yaml").write_text(yaml.safe_dump(config))
        record.write(runs[0])
        report(runs, tmp_path / "out")
        said = "cut by the clock: --max-minutes 6.0 gave it"
        assert (said in (tmp_path / "out" / "index.html").read_text()) == marked
        assert (said in capsys.readouterr().err) == marked


def test_the_best_of_each_set_is_marked_and_published_losses_stand_beside(runs: list[Path]) -> None:
    for run in runs:
        publish(run, {"front": 0.00727, "full": 0.01483})
    page = Page(report_page(runs))
    assert ("best", "0.00300") in page.cells and ("best", "0.00600") in page.cells
    assert ("", "0.00400") in page.cells and ("", "0.00800") in page.cells
    assert ("", "0.00727") in page.cells and ("", "0.01483") in page.cells
    # The higher PSNR is the better one.
    assert ("best", "37.00") in page.cells and ("", "36.00") in page.cells


def test_nothing_published_stands_beside_an_object_of_ones_own(runs: list[Path]) -> None:
    """Whatever its viewpoint sets are called: front and full, as those of the reference work."""
    page = Page(report_page(runs))
    assert "published" not in page.text and "0.00727" not in page.text and "0.01483" not in page.text


def test_what_was_published_of_one_object_is_not_held_against_another(runs: list[Path]) -> None:
    """A column of the table has it where it goes with every run; the row of numbers above, with its own run."""
    publish(runs[0], {"front": 0.00727, "full": 0.01483})
    publish(runs[1], {"front": 0.00727})
    page = Page(report_page(runs))
    assert ("", "0.00727") in page.cells and ("", "0.01483") not in page.cells
    assert page.text.count("0.01483: the published loss") == 1


def test_bars_are_shares_of_the_largest_of_a_column(runs: list[Path]) -> None:
    for run in runs:
        publish(run, {"front": 0.00727})
    html = report_page(runs)
    # 0.003, 0.004 and the published 0.00727.
    for share in (41.3, 55.0, 100.0):
        assert f"width:{share}%" in html


def test_a_row_that_is_being_written_is_left_for_later(runs: list[Path]) -> None:
    with open(runs[0] / "history.csv", "a") as file:
        file.write("1201,12")
    assert "1,200 × 100 ms" in report_page(runs)


def test_a_column_that_is_not_known_changes_nothing(runs: list[Path]) -> None:
    before = Page(report_page(runs)).figures
    for name in ("history.csv", "validation.csv"):
        head, *rows = (runs[0] / name).read_text().splitlines()
        rows = [row.replace(",", ",1764000000000,", 1) for row in rows]
        (runs[0] / name).write_text("\n".join([head.replace(",", ",time,", 1), *rows]) + "\n")
    assert Page(report_page(runs)).figures == before


def test_one_run_has_no_best_and_no_sweep(runs: list[Path]) -> None:
    page = Page(report_page(runs[:1]))
    assert "best" not in {cell for cell, _ in page.cells}
    assert "curves-sweep" not in page.figures


def test_curves_show_all_runs_and_sets_on_a_log_scale(runs: list[Path]) -> None:
    figures = Page(report_page(runs)).figures
    for axis in ("iteration", "seconds"):
        figure = json.loads(figures[f"curves-{axis}"])
        expected = [{"run": i, "curve": curve} for i in range(2) for curve in ("training", "front", "full")]
        assert [trace["meta"] for trace in figure["data"]] == expected
        assert figure["layout"]["yaxis"]["type"] == "log"
        assert figure["layout"]["xaxis"]["title"]["text"] == axis
    took = json.loads(figures["curves-time"])["data"]
    assert len(took) == 2 and took[0]["y"][5] == pytest.approx(100)


def test_the_sweep_goes_through_what_differs_and_what_came_out(runs: list[Path]) -> None:
    sweep = json.loads(Page(report_page(runs)).figures["curves-sweep"])
    assert sweep["layout"]["xaxis"]["ticktext"] == [
        *("run", "train.learning_rate", "error, front", "error, full", "chamfer", "minutes")
    ]
    slow = sweep["data"][1]
    assert slow["text"][:3] == ["run: slow", "train.learning_rate: 0.0005", "error, front: 0.003"]
    # It is the lowest of both errors.
    assert slow["y"][2:4] == [0, 0]


def test_a_run_that_lacks_a_set_keeps_its_line(runs: list[Path]) -> None:
    (runs[0] / "validation" / "full.json").unlink()
    paper = json.loads(Page(report_page(runs)).figures["curves-sweep"])["data"][0]
    assert paper["y"][3] is None and paper["connectgaps"]


def test_every_run_has_its_scene_and_its_views(runs: list[Path]) -> None:
    page = Page(report_page(runs))
    content = json.loads(page.figures["page"])
    assert [run["name"] for run in content["runs"]] == ["paper", "slow"]
    for run in content["runs"]:
        assert set(run["mesh"]["values"]) == {"distance", "seen/front", "seen/full"}
        assert run["reference"] and len(run["flow"]["frames"]) == 3
        assert run["training"]["iterations"] == [400, 800, 1200]
        assert set(run["cameras"]) == {"front", "full"}
        assert run["scales"]["seen/front"]["high"] == 2
        front = run["sets"]["front"]
        assert list(front["kinds"]) == ["truth", "prediction", "difference", "normals", "depth"]
        assert (front["views"], front["columns"], front["rows"]) == (VIEWS, 3, 2)
        assert front["ranges"]["difference"] == [0, 0.05]
    assert page.text.count("watertight") == 4 and page.text.count("genus 0") == 2


def test_every_part_that_is_asked_for_is_there_once(runs: list[Path]) -> None:
    page = Page(report_page(runs))
    parts = [str(tag["id"]) for name, tag in page.tags if name == "script" and str(tag.get("id")).startswith("part-")]
    assert len(parts) == len(set(parts))
    asked = set(re.findall(r'"key":"([0-9a-f]{16})"', page.figures["page"]))
    asked |= {str(tag["data-part"]) for _, tag in page.tags if tag.get("data-part")}
    kinds = [one for run in json.loads(page.figures["page"])["runs"] for one in run["sets"].values()]
    asked |= {key for one in kinds for key in one["kinds"].values()}
    assert {f"part-{key}" for key in asked} == set(parts)
    # Both runs have the same photographs.
    assert kinds[0]["kinds"]["truth"] == kinds[2]["kinds"]["truth"]


def test_every_figure_is_described(runs: list[Path]) -> None:
    tags = Page(report_page(runs)).tags
    plots = [tag for _, tag in tags if tag.get("class") == "plot"]
    assert len(plots) == 4
    assert all(tag["role"] == "img" and tag["aria-label"] for tag in plots)
    assert all(tag["data-label"] for _, tag in tags if tag.get("class") == "stage")
    images = [tag for name, tag in tags if name == "img"]
    assert len(images) >= 3 and all(tag["alt"] for tag in images)


def test_runs_are_told_apart_by_what_differs(runs: list[Path], tmp_path: Path) -> None:
    text = Page(report_page(runs)).text
    assert "train.learning_rate" in text and "train.seed" not in text
    other = write_run(tmp_path / "cat" / "paper")
    names = Page(report_page([runs[0], other])).text
    assert "bunny/paper" in names and "cat/paper" in names


def test_what_was_learned_beside_the_surface_is_said(runs: list[Path]) -> None:
    assert "Albedo, light and cameras" not in report_page(runs)
    Record("run", "recon", 0, tags={"recon.albedo": "one for the whole surface"}).write(runs[0])
    light = {
        "strengths_of_views": [[0.5, 0.5, 0.5], [1.0, 1.1, 0.9], [2.0, 2.0, 2.0]],
        "flash_offset_in_camera_frame": [0.05, -0.1, 0.0],
        "ambient_harmonics_relative_to_flash": [[0.8, 0.8, 0.8], *[[0.0] * 3] * 8],
        "vignetting_of_r2_r4_r6": [-0.2, -0.05, 0.0],
    }
    poses = [{"camera_to_world": [], "turned_degrees": angle, "shifted": angle / 10} for angle in (0.1, 0.3, 0.2)]
    (runs[0] / "light.json").write_text(json.dumps(light))
    (runs[0] / "cameras.json").write_text(json.dumps({"views": poses}))
    text = Page(report_page(runs)).text
    assert "Albedo, light and cameras" in text and "one for the whole surface" in text
    assert "0.50 to 2.00, median 1.00" in text
    assert "0.05, -0.1, 0" in text
    assert "0.23" in text and "0.75" in text
    assert "0.10° to 0.30°, median 0.20°" in text and "0.01 to 0.03, median 0.02" in text


@pytest.mark.parametrize("content", ['{"flash_offset_in_camera_frame": [1, 2]}', '{"strengths_of_views": "many"}'])
def test_a_light_that_training_does_not_write_is_refused(runs: list[Path], content: str) -> None:
    (runs[0] / "light.json").write_text(content)
    with pytest.raises(ReconError, match=r"light\.json or cameras\.json is not as training writes it"):
        report_page(runs)


def test_a_failed_certificate_shows(runs: list[Path]) -> None:
    path = runs[0] / "validation" / "certificate.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"self_intersections": 12, "genus": None}))
    html = report_page(runs)
    assert re.search(r'class="bad">12 self-intersections', html)
    assert re.search(r'class="bad">genus unknown', html)


@pytest.mark.parametrize(
    "name", ["<script>alert(1)<", '"><img src=x onerror=alert(1)>', "%{y} $a & 'b'", "{{ 7 * 7 }}"]
)
def test_names_are_shown_as_they_are(tmp_path: Path, name: str) -> None:
    runs = [write_run(tmp_path / name), write_run(tmp_path / "other", 0.003, 0.0005)]
    (runs[0] / "validation.csv").write_text(
        f"iteration,seconds,set,mean_absolute_error\n400,40,{name.replace(',', '')},0.1\n".replace('"', "")
    )
    page = Page(report_page(runs))
    assert not [tag for tag, attributes in page.tags if "onerror" in attributes]
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    named = [attributes for attributes in scripts if attributes.get("id") or attributes.get("data-figure")]
    assert len(scripts) - len(named) == 2  # three.js and the page's own
    assert json.loads(page.figures["page"])["runs"][0]["name"] == name
    assert name in page.text


def test_json_cannot_end_its_element() -> None:
    text = str(embedded_json({"name": "</script><!--&"}))
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"name": "</script><!--&"}


def test_the_film_in_another_light_is_in_the_page_and_a_broken_one_is_told(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    assert "lit by a lamp" not in report_page([folder])
    path = folder / "validation" / "relit.gif"
    frames = np.zeros((3, 20, 30, 3), np.uint8)
    frames[1:, 5:, 5:] = 200
    imageio.imwrite(path, frames, plugin="pillow", extension=".gif", duration=100, loop=0)
    page = Page(report_page([folder]))
    (film,) = [tag for _, tag in page.tags if "lit by a lamp" in (tag.get("alt") or "")]
    assert (film["width"], film["height"]) == ("30", "20")
    stored = imageio.imread(base64.b64decode(page.figures[f"part-{film['data-part']}"]), extension=".webp", index=...)
    assert stored.shape[1:] == (20, 30, 3) and stored[0].max() < 30 and stored[-1].max() > 170
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ReconError, match="relit.gif: not a readable film"):
        report_page([folder])
    path.write_bytes(b"")
    (folder / "validation" / "certificate.json").unlink()  # of which model the film is, nobody knows
    assert "lit by a lamp" not in report_page([folder])


def test_a_run_that_was_not_validated_yet(tmp_path: Path) -> None:
    run = write_training(tmp_path / "new")
    (run / "mesh.glb").unlink()
    html = report_page([run])
    assert "No run was validated yet" in html
    # The last snapshot stands in for the mesh.
    assert json.loads(Page(html).figures["page"])["runs"][0]["mesh"]
    (run / "validation.csv").write_text("")
    assert "No mesh was written yet" in report_page([run])


def test_snapshots_of_an_earlier_training_in_the_folder_are_left_out(runs: list[Path]) -> None:
    (runs[0] / "checkpoints" / "0000999.npz").write_text("old")
    training = json.loads(Page(report_page(runs)).figures["page"])["runs"][0]["training"]
    assert training["iterations"] == [400, 800, 1200]


def test_metrics_that_only_some_runs_have(runs: list[Path]) -> None:
    path = runs[0] / "validation" / "front.json"
    mean = {"mean_absolute_error": 0.004, "psnr": 30.0, "ssim": None}
    path.write_text(json.dumps({"set": "front", "views": 6, "mean": mean}))
    assert ("", "–") in Page(report_page(runs)).cells


def test_a_run_with_a_fine_mesh_is_simplified_for_the_page(tmp_path: Path) -> None:
    import trimesh

    run = write_training(tmp_path / "fine")
    trimesh.creation.icosphere(subdivisions=6).export(run / "mesh.glb")
    assert len(report_page([run])) < 7e6


def test_pictures_shrink_until_the_page_is_small_enough(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for path in (runs[0] / "validation" / "front").iterdir():
        imageio.imwrite(path, rng.integers(0, 255, (60, 72, 3), dtype=np.uint8))
    whole = len(report_page(runs))
    monkeypatch.setattr(page_module, "PICTURE_BYTES", 30_000)
    html = report_page(runs)
    assert len(html) < whole - 40_000
    assert json.loads(Page(html).figures["page"])["runs"][0]["sets"]["front"]["views"] == VIEWS


def test_arrays_come_back_to_within_a_step() -> None:
    payload = Payload()
    values = np.random.default_rng(0).normal(size=(500, 3))
    for bits in (8, 16):
        back = restored(payload, payload.quantised(values, bits)).reshape(500, 3)
        assert np.abs(back - values).max() <= 0.501 * np.ptp(values) / (2**bits - 1)
    faces = np.array([[0, 70_000, 3]])
    np.testing.assert_array_equal(restored(payload, payload.indices(faces)), faces.ravel())
    assert restored(payload, payload.quantised(np.full(4, 2.5))) == pytest.approx([2.5] * 4)
    assert payload.indices(faces) == payload.indices(faces)


def test_a_sprite_sheet_holds_the_views_in_order(tmp_path: Path) -> None:
    for view in range(1002):
        if view < 5 or view > 998:
            imageio.imwrite(tmp_path / f"{view:03d}_truth.png", np.full((8, 16, 3), view % 250, np.uint8))
    (tmp_path / "notes.png").write_text("no picture of ours")
    files = gallery_files(tmp_path)
    assert [path.name[:4] for path in files["truth"]] == [
        "000_",
        "001_",
        "002_",
        "003_",
        "004_",
        "999_",
        "1000",
        "1001",
    ]
    sheet = sprite_sheets(files, 8)["truth"]
    assert (sheet.views, sheet.columns, sheet.height, sheet.width) == (8, 3, 4, 8)
    lossless = sprite_sheets(files, 8, LOSSLESS)["truth"].encoded
    assert imageio.imread(lossless, extension=".webp")[5, 12].tolist() == [4, 4, 4]
    sheet = imageio.imread(sheet.encoded, extension=".webp")
    assert sheet.shape == (12, 24, 3)
    assert abs(int(sheet[5, 12, 0]) - 4) < 3


def test_three_js_is_a_library_alone() -> None:
    library = threejs()
    assert "THREE" in library and "</script" not in library
    assert "init();" not in library[-100:]


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
        ("validation/front.json", "{", "front.json: not readable JSON"),
        ("validation/front.json", "[]", "front.json: must hold a JSON object"),
        ("validation/front.json", "{}", "front.json: key 'mean'"),
        ("validation/front/001_truth.png", "no picture", "001_truth.png: not a readable picture"),
        ("validation/surface.npz", "no archive", "surface.npz: not a readable .npz archive"),
        ("validation/overshoot.npz", "no archive", "overshoot.npz: not a readable .npz archive"),
        ("checkpoints/0000800.npz", "no archive", "0000800.npz: not a readable .npz archive"),
    ],
)
def test_bad_files_are_named(runs: list[Path], tmp_path: Path, file: str, content: str, message: str) -> None:
    (runs[0] / file).write_text(content)
    with pytest.raises(ReconError, match=message) as caught:
        report(runs, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_arrays_that_are_missing_are_named(runs: list[Path], tmp_path: Path) -> None:
    np.savez(runs[0] / "validation" / "surface.npz", vertices=np.zeros((3, 3)))
    with pytest.raises(ReconError, match="surface.npz: key 'faces' is missing"):
        report(runs, tmp_path / "out")


def test_a_mesh_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    run = write_training(tmp_path / "new")
    (run / "mesh.glb").write_text("no mesh")
    with pytest.raises(ReconError, match="mesh.glb: not a readable .glb mesh"):
        report_page([run])


def test_a_stale_picture_of_another_size_is_left_out_with_a_line(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imageio.imwrite(runs[0] / "validation" / "front" / "002_depth.png", np.zeros((9, 9, 3), np.uint8))
    imageio.imwrite(runs[0] / "validation" / "full" / "006_truth.png", np.zeros((9, 9, 3), np.uint8))
    report(runs, tmp_path / "out")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "002_depth.png" in lines[0] and "'depth' is left out" in lines[0]
    record = load_records(runs)[0]
    assert "depth" not in record.galleries["front"] and len(record.galleries["full"]["truth"]) == VIEWS


def test_an_unreadable_picture_is_one_line(runs: list[Path], tmp_path: Path) -> None:
    (runs[0] / "validation" / "front" / "002_depth.png").write_text("no picture")
    with pytest.raises(ReconError, match="002_depth.png: not a readable picture"):
        report(runs, tmp_path / "out")


def test_numbers_of_another_model_are_left_out_with_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run")
    (run / "model.pt").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    validation = run / "validation"
    for name in ("front", "certificate"):
        path = validation / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"model": digest}))
    path = validation / "full.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model": "0" * 64}))
    record = load_records([run])[0]
    # Files that name no model may be of any.
    assert set(record.sets) == set(record.galleries) == {"front"}
    assert record.certificate is not None
    assert record.geometry is None and record.surface is None and record.overshoot is None
    report([run], tmp_path / "out")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert all(name in lines[0] for name in ("full.json", "geometry.json", "surface.npz", "overshoot.npz", "model.pt"))
    assert "is left out" in lines[0] or "are of another model" in lines[0]
    page = (tmp_path / "out" / "index.html").read_text()
    assert "full.json, geometry.json" in page


def test_everything_of_the_model_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run")
    assert load_records([run])[0].notes == []
    report([run], tmp_path / "out")
    assert capsys.readouterr().err == ""


def test_a_kind_that_lacks_a_view_is_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "validation" / "front" / "001_normals.png").unlink()
    (run / "validation" / "full" / "001_truth.png").unlink()
    record = load_records([run])[0]
    assert "normals" not in record.galleries["front"] and "full" not in record.galleries
    assert [line for line in record.notes if "'normals' of 5 of 6 views" in line]


def test_small_numbers_are_no_zeros() -> None:
    assert number(3.1234e-6, 5) == "3.12e-06"
    assert (number(0.0031, 5), number(0.0, 5), number(None, 3)) == ("0.00310", "0.00000", "–")
    assert (number(3, 0), number(0.05, 2), number(-12.345, 2)) == ("3", "0.05", "-12.35")


def _json(name: str, **changes: object) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        path = run / "validation" / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def _npz(name: str, **changes: object) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        with np.load(run / name) as stored:
            arrays = dict(stored)
        np.savez(run / name, **(arrays | {key.replace("__", "/"): np.asarray(value) for key, value in changes.items()}))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_json("front.json", mean={"psnr": "high"}), "front.json: key 'mean.psnr' must be a finite number"),
        (_json("front.json", mean={"psnr": float("nan")}), "front.json: key 'mean.psnr' must be a finite number"),
        (_json("front.json", views="two"), "front.json: key 'views' must be a positive number"),
        (_json("front.json", views=10**9), "front.json: key 'views' must be a positive number"),
        (_json("front.json", published="low"), "front.json: key 'published' must be a finite number"),
        (_json("front.json", per_view=[1, 2]), "front.json: key 'per_view' must hold"),
        (_json("front.json", ranges=[1]), "front.json: key 'ranges' must hold"),
        (_json("certificate.json", genus="one"), "certificate.json: key 'genus' must be a finite number"),
        (_json("geometry.json", chamfer="x"), "geometry.json: key 'chamfer' must be a finite number"),
        (_npz("validation/surface.npz", vertices=np.zeros((162, 2))), "surface.npz: key 'vertices' must hold finite"),
        (_npz("validation/surface.npz", faces=np.full((2, 3), 999)), "surface.npz: key 'faces' must hold triangles"),
        (_npz("validation/surface.npz", seen__front=np.zeros(5)), "surface.npz: key 'seen/front' must hold"),
        (_npz("validation/overshoot.npz", radiance=np.zeros(3)), "overshoot.npz: key 'radiance' must hold"),
        (_npz("checkpoints/0001200.npz", vertices=np.zeros((100, 3))), "0001200.npz: key 'vertices' must hold"),
    ],
)
def test_broken_measurements_are_one_line(change: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    change(run)
    with pytest.raises(ReconError, match=message) as caught:
        report_page([run])
    assert "\n" not in str(caught.value)


def test_a_history_of_words_is_one_line(tmp_path: Path) -> None:
    run = write_training(tmp_path / "run")
    (run / "history.csv").write_text("iteration,seconds,loss\n1,a,b\n")
    with pytest.raises(ReconError, match="history.csv: column 'seconds' must hold numbers, got 'a'"):
        report_page([run])
