import pytest

from recon.config import RunConfig, known_keys, load_config
from recon.identity import IDENTITY_FIELDS, OTHER_FIELDS, covers, identity_fields, row_identity, run_identity


def test_every_key_is_known_to_change_the_result_or_not() -> None:
    listed = IDENTITY_FIELDS + OTHER_FIELDS
    undecided = [key for key in known_keys() if not any(covers(field, key) for field in listed)]
    assert undecided == [], "list these in IDENTITY_FIELDS or OTHER_FIELDS of recon/identity.py"


def test_how_often_states_are_kept_changes_nothing() -> None:
    often = load_config(None, ["train.save_every=1"])
    assert run_identity(often, "a") == run_identity(RunConfig(), "a")
    assert "train.save_every" not in identity_fields(often)


@pytest.mark.parametrize(
    "override",
    [
        "train.learning_rate=0.001",
        "train.seed=1",
        "background=constant",
        "loss.image=2",
        "train.crop.size=9",
        "train.early_stopping.set=full",
    ],
)
def test_what_changes_the_result_changes_the_identity(override: str) -> None:
    assert run_identity(load_config(None, [override]), "a") != run_identity(RunConfig(), "a")


def test_data_and_budget_change_the_identity() -> None:
    config = RunConfig()
    assert len({run_identity(config, "a"), run_identity(config, "b"), run_identity(config, "a", 6.0)}) == 3
    assert row_identity(config) != row_identity(config, 6.0)


def test_a_default_written_out_is_the_same_run() -> None:
    written = load_config(None, [f"train.learning_rate={RunConfig().train.learning_rate}", "train.seed=0"])
    assert run_identity(written, "a") == run_identity(RunConfig(), "a")
    assert identity_fields(written) == identity_fields(RunConfig())


def test_identity_is_a_name_for_files() -> None:
    assert set(row_identity(RunConfig())) <= set("0123456789abcdef")
