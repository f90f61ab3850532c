"""What files, names and strangers must not be able to do."""

import ast
import http.client
import os
import pickle
import threading
import zipfile
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from runs import write_run

import recon
from recon import tracking
from recon.capture.scene import load_scene
from recon.cli import main
from recon.errors import ReconError
from recon.files import read_npz
from recon.model.file import load_model, read_content
from recon.report.page import report_page
from recon.report.viewer import make_server
from recon.run_folder import RunFolder
from recon.tracking.store import _folder
from recon.training.state import StateFile
from recon.workflow import parse_workflow

SOURCES = sorted(Path(recon.__file__).parent.rglob("*.py"))
SAFE_ARGUMENT = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
FORBIDDEN = {
    *(
        f"{module}.{name}"
        for module in ("pickle", "marshal", "dill", "joblib", "cloudpickle")
        for name in ("load", "loads")
    ),
    *(f"yaml.{name}" for name in ("load", "load_all", "full_load", "unsafe_load")),
    *("eval", "exec", "compile", "os.system", "os.popen", "shelve.open", "pd.read_pickle", "pickle.Unpickler"),
}
NAMES = ["../elsewhere", "/elsewhere", "a/b", "..", ".hidden", "-rf", "a\0b", "", "<b>", 'a"b', "a b"]


class Trap:
    """An object whose unpickling writes a file."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self):
        return os.system, (f"touch {self.sentinel}",)


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    return Trap(tmp_path / "sprung")


def test_nothing_that_runs_what_it_reads_is_called() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                check_call(node, f"{path.name}:{node.lineno}: {ast.unparse(node.func)}")


def check_call(node: ast.Call, where: str) -> None:
    called = ast.unparse(node.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    assert called not in FORBIDDEN, where
    assert given.get("shell", "False") == "False", where
    if called in SAFE_ARGUMENT:
        argument, value = SAFE_ARGUMENT[called]
        assert given.get(argument) == str(value), where


@pytest.mark.parametrize("kind", ["torch", "pickle"])
def test_pickle_in_a_model_or_a_state_is_refused_and_not_run(kind: str, tmp_path: Path, trap: Trap) -> None:
    state = RunFolder(tmp_path).state
    state.parent.mkdir()
    for path in (tmp_path / "model.pt", state):
        if kind == "torch":
            torch.save({"format": 1, "weights": trap}, path)
        else:
            path.write_bytes(pickle.dumps(trap))
    with pytest.raises(ReconError, match="model.pt: not a readable model") as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ReconError, match="state.pt: not a readable state"):
        read_content(state, "state")
    with pytest.raises(ReconError, match="state.pt"):
        StateFile(RunFolder(tmp_path), {}).load()
    assert not trap.sentinel.exists()


def test_pickle_in_an_archive_is_refused_and_not_run(
    tmp_path: Path, trap: Trap, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "views.npz"
    np.savez(path, images=np.array([trap], dtype=object))
    with pytest.raises(ReconError, match="views.npz: not a readable .npz archive"):
        read_npz(path)
    with zipfile.ZipFile(path, "w") as archive:  # not even the form of an array
        archive.writestr("images.npy", pickle.dumps(trap))
    assert main(["train", "--views", str(path), "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.startswith(f"recon: error: {path}: ")
    assert not trap.sentinel.exists()


def test_yaml_that_asks_for_a_call_is_refused(tmp_path: Path, trap: Trap, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.yaml").write_text(f"train: !!python/object/apply:os.system ['touch {trap.sentinel}']")
    (tmp_path / "views.npz").write_bytes(b"")
    command = ["train", "--views", str(tmp_path / "views.npz"), "--config", str(tmp_path / "train.yaml")]
    assert main([*command, "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.startswith(f"recon: error: {tmp_path / 'train.yaml'}: not YAML: ")
    assert not trap.sentinel.exists()


@pytest.mark.parametrize("name", NAMES)
def test_names_stay_where_they_belong(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for tree in ({"scenes": [name]}, {"training": name}, {"validation": [name]}):
        with pytest.raises(ReconError):
            parse_workflow(tree)
    for command in (
        ["train", "--views", "v.npz", "--out", "run", "--validation", f"{name}=v.npz"],
        ["validate", "--run", "run", "--out", "out", "--views", f"{name}=v.npz"],
        ["extract", "scene.yaml", "--out", "v.npz", "--set-name", name],
    ):
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1
    scene = tmp_path / "scene.yaml"
    scene.write_text(yaml.safe_dump({"object": {"primitive": "sphere"}, "sets": {name: {"views": 2}}}))
    with pytest.raises(ReconError, match=r"scene\.yaml"):
        load_scene(scene)


@pytest.mark.parametrize("name", ["../../elsewhere", "/elsewhere", "..", ".", "", "a\0b"])
def test_names_in_mlflow_stay_in_their_folders(
    name: str, tmp_path: Path, store_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of experiments and series are free text there; here they are folders."""
    run = tmp_path / "run"
    with tracking.start_run("named", {}, out=run) as exporter, suppress(ValueError):
        exporter.log_image(f"renders/{name}", np.zeros((2, 2, 3), np.uint8), 1)
    pictures = list(tmp_path.rglob("*.png"))
    assert all(path.is_relative_to(run / "checkpoints" / "renders") for path in pictures)
    assert (tmp_path / _folder(name)).resolve().parent == tmp_path.resolve()


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{7*7}}"


class Tags(HTMLParser):
    """Names of a page's elements, and of all their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attributes}


def test_names_cannot_break_the_report(tmp_path: Path) -> None:
    """Names of runs and sets and values of the configuration show as they are, and add no element."""
    friendly = write_run(tmp_path / "friendly" / "run")
    hostile = write_run(tmp_path / "hostile" / HOSTILE.replace("/", "\N{DIVISION SLASH}"))
    for run, name, value in ((friendly, "odd", "plain"), (hostile, HOSTILE.replace("/", ""), HOSTILE)):
        content = (run / "validation" / "front.json").read_text()
        (run / "validation" / f"{name}.json").write_text(content)
        with open(run / "validation.csv", "a") as file:
            file.write(f'1200,120.0,"{name.replace(chr(34), "")}",0.5\n')
        (run / "train.yaml").write_text(yaml.safe_dump({"train": {"note": value, value: 1}}))
    pages = [Tags(report_page([run])) for run in (friendly, hostile)]
    assert pages[0].tags == pages[1].tags
    assert not {name for name in pages[1].attributes if name.startswith("on")}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("served") / "mesh.ply"
    import trimesh

    trimesh.creation.icosphere(1).export(path)
    with make_server(path, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1", 200), ("localhost:8080", 200), ("evil.example", 403), ("127.0.0.1.evil.example", 403), ("", 403)],
)
def test_viewer_answers_this_machine_alone(served, host: str, status: int) -> None:
    """The second half: a stranger's page whose name was made to point here (DNS rebinding)."""
    assert served.server_address[0] == "127.0.0.1"
    connection = http.client.HTTPConnection("127.0.0.1", served.server_address[1], timeout=60)
    connection.request("GET", "/version", headers={"Host": host})
    assert connection.getresponse().status == status
    connection.close()


def test_mlflow_is_opened_for_this_machine_alone() -> None:
    makefile = Path(recon.__file__).parents[1] / "Makefile"
    if not makefile.exists():
        pytest.skip("not a checkout")
    recipe = next(line for line in makefile.read_text().splitlines() if "mlflow ui" in line)
    assert "--host 127.0.0.1" in recipe


def test_only_tracking_imports_mlflow() -> None:
    for path in SOURCES:
        if path.parent.name != "tracking":
            assert "import mlflow" not in path.read_text() and "from mlflow" not in path.read_text(), path
