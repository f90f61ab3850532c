"""Look at a run, a mesh or a viewpoint set in the browser, served to this machine alone."""

import hashlib
import webbrowser
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from recon.errors import ReconError
from recon.files import atomic
from recon.geometry.meshes import load_mesh
from recon.images.pictures import tone_map
from recon.report.asset import LARGEST
from recon.report.page import render_template, report_page
from recon.report.payload import Payload
from recon.report.sprite_sheet import webp
from recon.report.stages import mesh_stage, views_stage
from recon.run_folder import CHECKS, CONFIG, HISTORY, MESH_GLB, MODEL, VIEWER, RunFolder
from recon.views import load_views

HOST = "127.0.0.1"
GALLERY = 48
WATCHED = (MESH_GLB, MODEL, CHECKS, CONFIG)
"""Files of a run that change what its page shows, beside snapshots and measurements."""


def view(target: Path, port: int = 0, open_browser: bool = True) -> None:
    """Serve a page about `target` on http://127.0.0.1:`port` until Ctrl-C; port 0 takes a free one.

    Raises:
        ReconError: the target is no run, mesh or viewpoint set, or the port is taken.
    """
    with make_server(target, port) as server:
        address = f"http://{HOST}:{server.server_address[1]}/"
        print(f"{target} is shown at {address} (Ctrl-C ends)", flush=True)
        if open_browser:
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


def make_server(target: Path, port: int) -> ThreadingHTTPServer:
    """A server, bound but not yet running, of the page about `target`.

    The page is made anew for every request. It asks `/version` every other second and loads again when
    the files have changed, so that it follows a training.

    Raises:
        ReconError: as for `view`.
    """
    make_page = page_maker(target)
    make_page()  # whatever is wrong with the target is told here, not in the browser

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not is_local(self.headers.get("Host", "")):
                self.send_error(403, "This page is for this machine alone")
            elif self.path == "/version":
                self._answer(200, "plain", version(target))
            elif self.path == "/":
                self._answer(*_page_or_error(make_page))
            else:
                self.send_error(404)

        def _answer(self, status: int, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"text/{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    try:
        return ThreadingHTTPServer((HOST, port), Handler)
    except (OSError, OverflowError) as error:
        raise ReconError(f"--port {port}: cannot listen there: {error}") from error


def is_local(host: str) -> bool:
    """Whether a request's header `Host` names this machine.

    A name of somebody else's that was made to point here (DNS rebinding) would let their page read ours.
    """
    return host.partition(":")[0] in (HOST, "localhost")


def version(target: Path) -> str:
    """A text that changes when a file does that the page shows; the history alone, growing, is no news."""
    files = [target] if target.is_file() else [RunFolder(target).file(each) for each in WATCHED]
    files += RunFolder(target).checkpoints.glob("*.npz") if target.is_dir() else []
    files += RunFolder(target).validation.path.glob("*.json") if target.is_dir() else []
    stamps = sorted((path.name, path.stat().st_mtime_ns) for path in files if path.exists())
    return hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]


def page_maker(target: Path) -> Callable[[], str]:
    """What makes the page about `target`: a run's folder, a views file or a mesh.

    Raises:
        ReconError: it does not exist.
    """
    if not target.exists():
        raise ReconError(f"{target}: no such file or folder; expected a run, a mesh or a views file")
    if target.is_dir():
        return lambda: run_page(target)
    if target.suffix == ".npz":
        return lambda: views_page(target)
    return lambda: mesh_page(target)


def run_page(run: Path) -> str:
    """The report of one run; before its first checkpoint, a page that waits for it."""
    files = RunFolder(run)
    started, history = files.file(CONFIG).exists(), files.file(HISTORY)
    if started and (not history.exists() or history.stat().st_size == 0):
        return _object_page(
            Payload(), {"mesh": None}, run.name, "No checkpoint yet: this page waits for it.", "No mesh yet"
        )
    return report_page([run], live=True)


def _page_or_error(make_page: Callable[[], str]) -> tuple[int, str, str]:
    try:
        return 200, "html", make_page()
    except ReconError as error:
        # A file may be half of an old and half of a new training: the page looks again.
        return 500, "html", render_template("error.html.j2", live=True, page={}, parts={}, title="recon", message=error)


def write_viewer(mesh: Path, out: Path) -> None:
    """Write a page with the mesh to turn that needs nothing else: no server, no network.

    Raises:
        ReconError: the mesh cannot be read, or `out` cannot be written.
    """
    with atomic(out) as temporary:
        temporary.write_text(mesh_page(mesh, live=False), encoding="utf-8")


def write_run_viewer(run: Path) -> None:
    """The mesh of a run folder to turn, for MLflow, which shows pages but no meshes."""
    files = RunFolder(run)
    write_viewer(files.file(MESH_GLB), files.file(VIEWER))


def mesh_page(path: Path, live: bool = True) -> str:
    """A page with one mesh to turn; `live`: it loads again when the server says that the mesh has changed."""
    payload = Payload()
    mesh = load_mesh(path)
    subtitle = f"{len(mesh.vertices):,} vertices, {len(mesh.faces):,} faces"
    shown_whole = path.suffix.lower() == ".glb" and path.stat().st_size <= LARGEST
    return _object_page(
        payload,
        mesh_stage(payload, mesh, path if shown_whole else None),
        path.name,
        subtitle,
        f"The mesh {path.name}",
        live=live,
    )


def views_page(path: Path) -> str:
    """A page with a viewpoint set's cameras in space and its images, at most `GALLERY` of them."""
    payload = Payload()
    views = load_views(path)
    chosen = np.unique(np.linspace(0, len(views) - 1, GALLERY).round().astype(int))
    pictures = [{"view": int(i), "key": payload.picture(webp(tone_map(views.images[i])))} for i in chosen]
    subtitle = f"{len(views)} views of {views.width}×{views.height} pixels"
    label = f"The {len(views)} cameras around the unit sphere"
    return _object_page(payload, views_stage(payload, views), path.name, subtitle, label, pictures)


def _object_page(
    payload: Payload,
    stage: dict[str, Any],
    title: str,
    subtitle: str,
    label: str,
    pictures: Sequence[dict[str, Any]] = (),
    live: bool = True,
) -> str:
    return render_template(
        "object.html.j2",
        live=live,
        page={"runs": [{"sets": {}, **stage}], "scales": {}},
        asset=stage.get("asset"),
        parts=payload.parts,
        title=title,
        subtitle=subtitle,
        label=label,
        pictures=pictures,
    )
