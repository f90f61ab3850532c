import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from recon.config import RunConfig, flatten, known_keys, load_config, overrides, save_config
from recon.errors import ReconError
from recon.workflow import WorkflowConfig, experiment_schema, generated, workflow_schema

ROOT = Path(__file__).parents[1]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_defaults_without_a_file() -> None:
    assert load_config(None) == RunConfig()


def test_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert load_config(write(tmp_path / "train.yaml", "")) == RunConfig()


def test_file_and_overrides(tmp_path: Path) -> None:
    path = write(tmp_path / "train.yaml", "train: {iterations: 7, seed: 3}\nbackground: constant\n")
    config = load_config(path, ["train.iterations=9", "train.crop.size=50", "train.levels=[2, 3]"])
    assert (config.train.iterations, config.train.seed, config.train.crop.size) == (9, 3, 50)
    assert config.train.levels == (2, 3)
    assert config.background == "constant"


def test_a_networks_defaults_are_its_own_and_are_written_out(tmp_path: Path) -> None:
    config = load_config(None, ["surface.representation=mlp", "train.seed=2"])
    assert (config.train.learning_rate, config.train.iterations, config.train.seed) == (4e-3, 2000, 2)
    assert (config.loss.velocity, config.loss.velocity_points) == (0.03, 256)
    assert (config.loss.distortion, config.loss.crossing, config.loss.fold) == (0, 0, 5)
    assert "train.learning_rate=0.004" in overrides(config)
    save_config(config, tmp_path / "train.yaml")
    assert load_config(tmp_path / "train.yaml") == config


def test_what_is_given_to_a_network_stays() -> None:
    config = load_config(None, ["surface.representation=mlp", "train.learning_rate=0.001", "loss.crossing=1"])
    assert (config.train.learning_rate, config.loss.crossing) == (1e-3, 1)


@pytest.mark.parametrize("name", ["paper", "week3"])
def test_presets_are_of_the_network(name: str) -> None:
    config = load_config(ROOT / "config" / "presets" / f"{name}.yaml")
    assert config.surface.representation == "mlp"
    assert (config.surface.width, config.surface.steps, config.surface.integrator) == (256, 20, "euler")
    assert (config.loss.fold, config.loss.silhouette, config.loss.distortion) == (0, 0, 0)


def test_the_preset_for_photographs_models_room_and_light() -> None:
    config = load_config(ROOT / "config" / "presets" / "photographs.yaml", ["light.ambient=false"])
    assert set(overrides(config)) == {'background="field"', "light.strength=true", "light.offset=true"}


def test_grids_are_nested() -> None:
    with pytest.raises(ReconError, match="key 'surface': .*'cells' must each be twice the one before"):
        load_config(None, ["surface.cells=[4, 12]"])


def test_resolved_configuration_reads_back(tmp_path: Path) -> None:
    config = load_config(None, ["train.crop.size=32", "loss.image=2", "surface.integrator=rk4"])
    save_config(config, tmp_path / "train.yaml")
    assert load_config(tmp_path / "train.yaml") == config


@pytest.mark.parametrize(
    "key",
    [
        "train.iterations",
        "train.learning_rate",
        "train.crop.size",
        "train.seed",
        "loss.image",
        "loss.velocity",
        "background",
        "reflectance",
        "render.backend",
    ],
)
def test_keys_that_scripts_rely_on(key: str) -> None:
    assert key in known_keys()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.iteratons=9", "unknown key 'train.iteratons'; the nearest known key is 'train.iterations'"),
        ("los.image=9", "unknown key 'los'; the nearest known key is 'loss'"),
        ("backgrund=none", "unknown key 'backgrund'; the nearest known key is 'background'"),
        ("train.iterations=0", "key 'train.iterations': input should be greater than or equal to 1, got 0"),
        ("train.iterations=many", "key 'train.iterations': .*, got 'many'"),
        ("train.learning_rate=.nan", "key 'train.learning_rate': .*, got nan"),
        ("train.learning_rate=-1", "key 'train.learning_rate': .*greater than 0"),
        ("loss.image=.inf", "key 'loss.image': .*finite"),
        ("train.levels=[3, 9]", "key 'train.levels.1': .*less than or equal to 7, got 9"),
        ("train.levels=[]", "key 'train.levels': .*at least 1"),
        ("background=sky", "key 'background': .*'none'"),
        ("train=3", "key 'train': .*, got 3"),
        ("train.seed", "--set train.seed: must have the form key=value"),
        ("=3", "--set =3: must have the form key=value"),
        ("train.seed=[", r"--set train.seed=\[: the value is not YAML"),
        ("background.x.y=3", "key 'background'"),
    ],
)
def test_bad_override_is_one_line_with_key_and_expectation(override: str, message: str) -> None:
    with pytest.raises(ReconError, match=message) as caught:
        load_config(None, [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n- 2\n", "must hold a mapping of keys, got list"),
        ("train: [", "not YAML"),
        ("train: {sed: 1}", "unknown key 'train.sed'; the nearest known key is 'train.seed'"),
    ],
)
def test_bad_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "train.yaml", text)
    with pytest.raises(ReconError, match=message) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_file_that_is_missing_or_binary(tmp_path: Path) -> None:
    with pytest.raises(ReconError, match="cannot be read: No such file"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ReconError, match="not YAML"):
        load_config(tmp_path / "binary.yaml")


@pytest.mark.parametrize("path", generated(ROOT), ids=lambda path: path.name)
def test_generated_files_are_up_to_date(path: Path) -> None:
    assert path.read_text() == generated(ROOT)[path], "run `make schemas` and commit what it writes"


def test_config_yaml_passes_its_schema_and_shows_defaults() -> None:
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    jsonschema.validate(config, workflow_schema())
    assert WorkflowConfig.model_validate(config) == WorkflowConfig()


@pytest.mark.parametrize(
    "config", [{"scens": ["bunny"]}, {"scenes": []}, {"scenes": ["a/b"]}, {"scenes": ["logs"]}, {"max_minutes": 0}]
)
def test_schema_refuses_a_bad_workflow_configuration(config: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config, workflow_schema())


def test_schema_of_experiments_takes_every_training_key() -> None:
    defaults = json.loads(json.dumps(flatten(RunConfig().model_dump())))
    jsonschema.validate({"experiment": "default", **defaults}, experiment_schema())


@pytest.mark.parametrize(
    "row",
    [
        {"train.seed": 1},
        {"experiment": "views"},
        {"experiment": "a", "train.sed": 1},
        {"experiment": "a", "train.seed": -1},
    ],
)
def test_schema_refuses_a_bad_experiment(row: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(row, experiment_schema())
