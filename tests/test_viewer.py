import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import trimesh
from runs import write_training

from recon.camera import look_at
from recon.errors import ReconError
from recon.report.viewer import make_server, version, view
from recon.views import Views, save_views


@contextmanager
def served(target: Path) -> Iterator[http.client.HTTPConnection]:
    with make_server(target, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
        finally:
            server.shutdown()
            thread.join()


def get(connection: http.client.HTTPConnection, path: str = "/") -> tuple[int, str]:
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read().decode()


def test_a_mesh_is_shown(tmp_path: Path) -> None:
    trimesh.creation.icosphere(subdivisions=1).export(tmp_path / "ball.ply")
    with served(tmp_path / "ball.ply") as connection:
        status, page = get(connection)
        assert status == 200
        assert "ball.ply" in page and "42 vertices, 80 faces" in page and '"faces":' in page
        assert get(connection, "/../../etc/passwd")[0] == 404


def test_a_viewpoint_set_is_shown(tmp_path: Path) -> None:
    poses = look_at(np.array([[2.0, 0, 1], [0, 2, 1]]), np.zeros(3), np.array([0, 0, 1.0]))
    intrinsics = np.tile(np.array([[20.0, 0, 6], [0, 20, 4], [0, 0, 1]]), (2, 1, 1))
    save_views(Views(np.full((2, 8, 12, 3), 1.3, np.float32), poses, intrinsics), tmp_path / "views.npz")
    with served(tmp_path / "views.npz") as connection:
        page = get(connection)[1]
    assert "2 views of 12×8 pixels" in page
    assert page.count("<img") == 2
    assert '"cameras":{"views"' in page


def test_a_run_is_shown_as_it_goes_on(tmp_path: Path) -> None:
    run = write_training(tmp_path / "run")
    with served(run) as connection:
        assert "1,200 × " in get(connection)[1]
        with open(run / "history.csv", "a") as file:
            file.write("1300,130,0.004,0.004\n")
        assert "1,300 × " in get(connection)[1]
        (run / "history.csv").write_text("broken")
        status, text = get(connection)
        assert status == 500 and "history.csv" in text


def test_the_version_changes_with_checkpoints_and_not_with_every_iteration(tmp_path: Path) -> None:
    run = write_training(tmp_path / "run")
    with served(run) as connection:
        first = get(connection, "/version")
        assert first == (200, version(run))
        with open(run / "history.csv", "a") as file:
            file.write("1300,130,0.004,0.004\n")
        assert get(connection, "/version") == first
        np.savez(run / "checkpoints" / "0001300.npz", vertices=np.zeros((12, 3)))
        assert get(connection, "/version") != first


def test_a_training_before_its_first_checkpoint_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("{}")
    (tmp_path / "history.csv").write_text("")
    with served(tmp_path) as connection:
        status, page = get(connection)
        assert status == 200 and "No checkpoint yet" in page
        assert "connect-src &#39;self&#39;" in page


def test_only_this_machine_is_served(tmp_path: Path) -> None:
    trimesh.creation.box().export(tmp_path / "box.ply")
    with make_server(tmp_path / "box.ply", 0) as server:
        assert server.server_address[0] == "127.0.0.1"


def test_interrupting_ends_it_cleanly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trimesh.creation.box().export(tmp_path / "box.ply")
    opened = []

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("http.server.ThreadingHTTPServer.serve_forever", interrupt)
    view(tmp_path / "box.ply", port=0, open_browser=True)
    assert opened[0] in capsys.readouterr().out
    view(tmp_path / "box.ply", port=0, open_browser=False)
    assert len(opened) == 1


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    trimesh.creation.box().export(tmp_path / "box.ply")
    with make_server(tmp_path / "box.ply", 0) as server, pytest.raises(ReconError, match="cannot listen"):
        view(tmp_path / "box.ply", server.server_address[1], open_browser=False)


@pytest.mark.parametrize(("name", "content"), [("gone.ply", None), ("bad.ply", "x"), ("bad.npz", "x"), ("a.txt", "x")])
def test_bad_targets_are_named(tmp_path: Path, name: str, content: str | None) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ReconError, match=name):
        view(tmp_path / name, 0, open_browser=False)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ReconError, match="not a training run"):
        view(tmp_path, 0, open_browser=False)
