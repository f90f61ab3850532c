from pathlib import Path

import jsonschema
import pytest

from recon.config import load_config
from recon.errors import ReconError
from recon.experiments import Experiment, check_watched_sets, read_experiments
from recon.workflow import experiment_schema, parse_workflow


def table(folder: Path, *rows: str) -> Path:
    path = folder / "experiments.tsv"
    path.write_text("\n".join(rows) + "\n")
    return path


def read(folder: Path, *rows: str) -> list[Experiment]:
    return read_experiments(table(folder, *rows))


def test_an_empty_cell_is_the_default(tmp_path: Path) -> None:
    rows = ["# comment", "experiment\ttrain.crop.size\ttrain.learning_rate\ttrain.levels", "plain", ""]
    plain, crops = read(tmp_path, *rows, "crops\t50\t1e-3\t[2, 3]")
    assert plain.config == load_config(None)
    assert plain.overrides() == []
    assert crops.config == load_config(None, ["train.crop.size=50", "train.learning_rate=0.001", "train.levels=[2,3]"])


def test_overrides_give_the_command_the_same_configuration(tmp_path: Path) -> None:
    columns = "experiment\ttrain.crop.size\ttrain.learning_rate\ttrain.levels\tbackground\ttrain.random_rotation"
    (row,) = read(tmp_path, columns, "a\t50\t1e-7\t[2, 3]\tconstant\tno")
    assert load_config(None, row.overrides()) == row.config


def test_wall_clock_of_a_row(tmp_path: Path) -> None:
    columns = "experiment\tmax_minutes\ttrain.iterations"
    rows = read(tmp_path, columns, "plain", "counted\t\t100", "timed\t3", "both\t3\t100")
    assert [row.max_minutes(6.0) for row in rows] == [6.0, None, 3.0, 3.0]
    assert rows[0].max_minutes(None) is None


def test_identity_of_a_row(tmp_path: Path) -> None:
    columns = "experiment\tscene\tthreads\tmem_mb\truntime\ttrain.learning_rate\ttrain.seed"
    rows = read(tmp_path, columns, "a", "b\tball", "c\t\t3\t9\t8", "d\t\t\t\t\t\t0", "e\t\t\t\t\t0.001")
    plain, scene, resources, default, rate = [row.identity(6.0) for row in rows]
    assert plain == scene == resources == default
    assert plain != rate
    assert plain != rows[0].identity(7.0)


def test_a_row_watches_a_set_that_is_measured(tmp_path: Path) -> None:
    rows = read(tmp_path, "experiment\ttrain.early_stopping.set", "plain", "stopped\tfull")
    check_watched_sets("table.tsv", rows, ["front", "full"])
    with pytest.raises(ReconError, match=r"table.tsv: experiment 'stopped', column 'train.early_stopping.set': no .*"):
        check_watched_sets("table.tsv", rows, ["front", "above"])


def test_the_table_of_the_package_repeats_the_references_experiments() -> None:
    """Its week-3 report, section 1.2: iterations, learning rate, window, weight of the image loss."""
    rows = read_experiments(Path(__file__).parents[1] / "config" / "experiments.tsv")
    heads = [row.config for row in rows if row.row.scene == "bunny_head" and row.config.background == "none"]
    found = {(c.train.iterations, c.train.learning_rate, c.train.crop.size, c.loss.image) for c in heads}
    assert found >= {
        (1200, 1e-3, 50, 1.0),
        (1000, 1e-3, 50, 1.0),
        (1000, 5e-4, 50, 1.0),
        (1000, 1e-4, 50, 1.0),
        (1000, 1e-3, 50, 1.5),
        (4000, 5e-4, 50, 1.0),
        (1000, 1e-3, 80, 1.0),
        (1000, 1e-3, None, 1.0),
    }
    assert any(row.row.scene is None and row.overrides() == ['reflectance="constant"'] for row in rows)


def test_a_table_from_a_spreadsheet(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    path.write_bytes("\ufeffexperiment\ttrain.seed\r\na\t1\r\n\t\r\n".encode())
    (row,) = read_experiments(path)
    assert (row.name, row.config.train.seed) == ("a", 1)


def test_one_name_on_two_scenes(tmp_path: Path) -> None:
    rows = read(tmp_path, "experiment\tscene\ttrain.seed", "a\tball\t1", "a\tcube\t2")
    assert [[row.runs_on(scene) for row in rows] for scene in ("ball", "cube")] == [[True, False], [False, True]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["experiment\ttrain.sed", "a\t1"], "unknown column 'train.sed'; the nearest known key is 'train.seed'"),
        (["experiment    train.seed", "a    1"], r"unknown column .* \(columns are separated by tabs\)"),
        (["experiment\ttrain", "a\t1"], "unknown column 'train'"),
        (["train.seed", "1"], "column 'experiment', the name of each run, is missing"),
        (["experiment\ttrain.seed\ttrain.seed", "a\t1\t2"], "column 'train.seed' is there twice"),
        (["experiment\ttrain.seed", "a\t-1"], r"line 2 \(experiment 'a'\), column 'train.seed': .*equal to 0, got -1"),
        (["experiment\ttrain.seed", "# b", "a\tx"], r"line 3 \(experiment 'a'\), column 'train.seed': .*got 'x'"),
        (["experiment\ttrain.levels", "a\t[3, 9]"], r"line 2 \(experiment 'a'\), column 'train.levels': .*got 9"),
        (["experiment\ttrain.levels", "a\t[3"], r"column 'train.levels': not a YAML value: '\[3'"),
        (["experiment\tbackground", "a\tsky"], "column 'background': .*'none'.*got 'sky'"),
        (["experiment\tthreads", "a\t0"], r"line 2 \(experiment 'a'\), column 'threads': .*greater than or equal to 1"),
        (["experiment\tmax_minutes", "a\t.inf"], "column 'max_minutes': .*finite"),
        (["experiment\ttrain.seed", "a\t1\t2"], r"line 2 \(experiment 'a'\): has 3 cells; the table has 2 columns"),
        (["experiment\ttrain.seed", "\t1"], r"line 2 \(experiment ''\), column 'experiment': field required"),
        (["experiment", "a", "b", "a"], r"line 4 \(experiment 'a'\), column 'experiment': .* already that of line 2"),
        (["experiment\tscene", "a\tball", "a"], r"line 2 \(experiment 'a'\), .* line 3 has this name for every scene"),
        (["experiment"], "has no rows"),
        (["# nothing"], "has no columns"),
    ],
)
def test_bad_table_is_one_line_with_row_and_column(tmp_path: Path, rows: list[str], message: str) -> None:
    path = table(tmp_path, *rows)
    with pytest.raises(ReconError, match=message) as caught:
        read_experiments(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_table_that_is_missing_or_binary(tmp_path: Path) -> None:
    with pytest.raises(ReconError, match="none.tsv: cannot be read: No such file"):
        read_experiments(tmp_path / "none.tsv")
    (tmp_path / "binary.tsv").write_bytes(b"experiment\n\xff\xfe\x00")
    with pytest.raises(ReconError, match="binary.tsv: not a table of text"):
        read_experiments(tmp_path / "binary.tsv")


PATHS = ["../up", "/root", "a/b", ".", "..", ".hidden", "-rf", "a b", "a;b", "$(b)", "a\\b", "ä", "a" * 101]


@pytest.mark.parametrize("name", [*PATHS, "views", "runs"])
def test_name_of_an_experiment_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ReconError, match="line 2 .*, column 'experiment'"):
        read(tmp_path, "experiment", name)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"experiment": name}, experiment_schema())


@pytest.mark.parametrize("name", [*PATHS, "logs", "report", "experiments"])
def test_name_of_a_scene_stays_in_the_results(tmp_path: Path, name: str) -> None:
    with pytest.raises(ReconError, match="column 'scene'"):
        read(tmp_path, "experiment\tscene", f"a\t{name}")
    with pytest.raises(ReconError, match="key 'scenes.0'"):
        parse_workflow({"scenes": [name]})


@pytest.mark.parametrize("name", [*PATHS, "a\n", "geometry", "certificate"])
def test_name_of_a_viewpoint_set_stays_in_its_folder(name: str) -> None:
    with pytest.raises(ReconError, match="key 'training'"):
        parse_workflow({"training": name})
    with pytest.raises(ReconError, match="key 'validation.1'"):
        parse_workflow({"validation": ["front", name]})


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"scens": ["a"]}, "unknown key 'scens'; the nearest known key is 'scenes'"),
        ({"threads": 0}, "key 'threads': .*greater than or equal to 1, got 0"),
        ({"scenes": ["a", "a"]}, "key 'scenes': 'a' is there twice"),
        ({"max_minutes": -1}, "key 'max_minutes': .*greater than 0"),
    ],
)
def test_bad_workflow_configuration_is_one_line(tree: dict[str, object], message: str) -> None:
    with pytest.raises(ReconError, match=message) as caught:
        parse_workflow(tree)
    assert "\n" not in str(caught.value)
