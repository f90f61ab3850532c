"""The figures of a paper, as files."""

from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from runs import publish, write_run, write_training

from recon.errors import ReconError
from recon.report.paper import PaperFigure, paper_figures, write_figures
from recon.report.paper_pictures import variants, wrapped
from recon.report.records import load_records


def figures_of(*runs: Path) -> dict[str, PaperFigure]:
    return {figure.name: figure for figure in paper_figures(load_records(runs))}


def test_files_are_300_dots_an_inch_and_plots_are_also_vectors(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    write_figures(list(figures_of(run).values()), tmp_path / "figures")
    files = {path.name for path in (tmp_path / "figures").iterdir()}
    assert files == {
        *("losses.png", "losses.svg", "time_per_iteration.png", "time_per_iteration.svg", "errors.png", "errors.svg"),
        *("figure1_overshoot.png", "figure2_crops.png", "figure6_viewpoint_sets.png"),
    }
    meta = imageio.immeta(tmp_path / "figures" / "losses.png", plugin="pillow")
    assert meta["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert "<svg" in (tmp_path / "figures" / "losses.svg").read_text()


def test_the_same_runs_give_the_same_files(tmp_path: Path) -> None:
    run = write_training(tmp_path / "run")
    for name in ("a", "b"):
        write_figures(list(figures_of(run).values()), tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_a_training_alone_has_its_curves(tmp_path: Path) -> None:
    found = figures_of(write_training(tmp_path / "run"))
    assert [name for name, figure in found.items() if figure.found] == ["losses", "time_per_iteration"]
    assert all(figure.needs for figure in found.values() if not figure.found)


def test_learning_rates_stand_side_by_side(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "fast", 0.004, 0.002), write_run(tmp_path / "slow", 0.009, 0.0005)]
    figure = figures_of(*runs)["figure3_learning_rates"]
    assert "0.0090 with learning rate 0.0005, 0.0040 with learning rate 0.002" in figure.caption
    assert len(figure.drawn().axes) == 3 * 6


def test_only_runs_that_agree_in_all_else_are_compared(tmp_path: Path) -> None:
    slow, fast = write_run(tmp_path / "slow", 0.004, 0.0005), write_run(tmp_path / "fast", 0.004, 0.002)
    (fast / "train.yaml").write_text("train: {learning_rate: 0.002, seed: 1}")
    assert len(variants(load_records([slow, fast]), "train.learning_rate")) == 1
    # So are those of one scene alone.
    other = write_run(tmp_path / "other", 0.004, 0.002, lit_border=True)
    assert len(variants(load_records([slow, other]), "train.learning_rate")) == 1


def test_crops_are_those_of_the_configuration(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "small"), write_run(tmp_path / "large")]
    for run, size in zip(runs, (8, 16), strict=True):
        (run / "train.yaml").write_text(f"train: {{crop: {{size: {size}}}}}")
    found = figures_of(*runs)
    assert "windows of 8 x 8" in found["figure2_crops"].caption
    assert "with crop 8, " in found["figure4_crop_sizes"].caption
    assert "windows of 10 x 10" in figures_of(write_run(tmp_path / "whole"))["figure2_crops"].caption


def test_a_background_is_found_in_the_photographs(tmp_path: Path) -> None:
    dark, lit = write_run(tmp_path / "dark"), write_run(tmp_path / "lit", lit_border=True)
    assert figures_of(dark)["figure5_background"].found is None
    figure = figures_of(dark, lit)["figure5_background"]
    assert "lit" in figure.caption
    assert len(figure.drawn().axes) == 2 * 6
    for path in (lit / "validation" / "front").glob("*_prediction.png"):
        for kind in ("object", "background"):
            imageio.imwrite(path.with_name(path.name.replace("prediction", kind)), imageio.imread(path))
    assert len(figures_of(lit)["figure5_background"].drawn().axes) == 4 * 6


def test_a_run_before_something_goes_before_one_that_models_nothing_to_see(tmp_path: Path) -> None:
    """A field before black is the better run, and its picture of a background is black."""
    dark, lit = write_run(tmp_path / "dark", 0.001), write_run(tmp_path / "lit", 0.004, lit_border=True)
    plain = write_run(tmp_path / "plain", 0.002, lit_border=True)
    for run in (dark, lit):
        for path in (run / "validation" / "front").glob("*_prediction.png"):
            for kind in ("object", "background"):
                imageio.imwrite(path.with_name(path.name.replace("prediction", kind)), imageio.imread(path))
    assert figures_of(dark)["figure5_background"].found is None
    assert "lit" in figures_of(dark, plain, lit)["figure5_background"].caption


def test_many_runs_are_rows_of_dots(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / f"scene_{i % 2}" / f"a-run-with-a-long-name-{i:02}", 0.004 + i / 1000) for i in range(23)
    ]
    publish(runs[0], {"full": 0.01483})
    figures = figures_of(*runs)
    axes = figures["errors"].drawn().axes[0]
    assert len(axes.get_yticklabels()) == 23
    assert [len(dots.get_offsets()) for dots in axes.collections] == [23, 23]
    assert sorted(_labels(figures["errors"])) == ["front", "full"]
    # Of curves as many as there are colours are drawn through.
    lines = figures["losses"].drawn().axes[0].lines
    assert len({(line.get_color(), str(line._dash_pattern)) for line in lines}) == 23  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [2, 9, 23])
@pytest.mark.parametrize("name", ["errors", "losses", "time_per_iteration"])
def test_legends_are_within_their_figures(tmp_path: Path, name: str, count: int) -> None:
    runs = [write_run(tmp_path / "scene" / f"a-run-with-quite-a-long-name-{i:02}") for i in range(count)]
    figure = figures_of(*runs)[name].drawn()
    figure.canvas.draw()
    (legend,) = figure.legends
    box, page = legend.get_window_extent(), figure.bbox
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.x1 and box.y1 <= page.y1
    assert all(axes.get_window_extent().height > 80 for axes in figure.axes if axes.axison)


def test_the_overshoot_is_told_in_numbers(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    caption = figures_of(run)["figure1_overshoot"].caption
    assert "view 2 of front" in caption and "1.200" in caption and "4 of 480 pixels" in caption


def test_where_nothing_overshoots_a_longer_exposure_does(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    radiance = np.full((20, 24, 3), 0.5, np.float32)
    radiance[8:10, 8:10] = 0.92
    np.savez_compressed(run / "validation" / "overshoot.npz", set="front", view=2, radiance=radiance)
    caption = figures_of(run)["figure1_overshoot"].caption
    assert "largest radiance is 0.920; no pixel exceeds 1, so it is shown 1.25 times as bright" in caption
    assert "then 4 of 480 pixels exceed 1" in caption


def test_what_wraps_comes_out_dark() -> None:
    radiance = np.full((1, 3, 3), 1.0)
    radiance[0, 1], radiance[0, 2] = 1.001, 0.0
    white, above, black = wrapped(radiance)[0, :, 0].tolist()
    assert (white, black) == (255, 0)
    assert above < 5


def test_viewpoint_sets_stand_beside_what_was_published_of_them(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert "front 0.00400; full 0.00800." in figures_of(run)["figure6_viewpoint_sets"].caption
    assert _labels(figures_of(run)["errors"]) == []
    publish(run, {"full": 0.01483})
    assert "front 0.00400; full 0.00800 (published 0.01483)." in figures_of(run)["figure6_viewpoint_sets"].caption
    assert sorted(_labels(figures_of(run)["errors"])) == ["published", "run"]


def _labels(figure: PaperFigure) -> list[str]:
    return [text.get_text() for legend in figure.drawn().legends for text in legend.get_texts()]


def test_names_with_formulas_are_drawn_as_they_are(tmp_path: Path) -> None:
    names = ("a$b$", "$\\frac{")
    runs = [write_run(tmp_path / name, 0.004, rate) for name, rate in zip(names, (0.001, 0.002), strict=True)]
    write_figures(list(figures_of(*runs).values()), tmp_path / "figures")
    assert "$" in (tmp_path / "figures" / "losses.svg").read_text()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReconError, match="file: cannot be written as a folder"):
        write_figures([], tmp_path / "file")
