"""Look at a run, a mesh or a viewpoint set in the browser, served to this machine alone."""

import webbrowser
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from recon.errors import ReconError
from recon.evaluation.pictures import tone_map
from recon.report.figures import cameras_figure, mesh_figure
from recon.report.page import picture_uri, render_template, report_page
from recon.scenes.meshes import load_mesh
from recon.views import load_views

HOST = "127.0.0.1"
GALLERY = 48


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

    The page is made anew for every request, so that reloading it shows how a training goes on.

    Raises:
        ReconError: as for `view`.
    """
    make_page = page_maker(target)
    make_page()  # whatever is wrong with the target is told here, not in the browser

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/":
                self.send_error(404)
                return
            try:
                status, body = 200, make_page().encode()
            except ReconError as error:
                status, body = 500, str(error).encode()
            self.send_response(status)
            self.send_header("Content-Type", f"text/{'html' if status == 200 else 'plain'}; charset=utf-8")
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


def page_maker(target: Path) -> Callable[[], str]:
    """What makes the page about `target`: a run's folder, a views file or a mesh.

    Raises:
        ReconError: it does not exist.
    """
    if not target.exists():
        raise ReconError(f"{target}: no such file or folder; expected a run, a mesh or a views file")
    if target.is_dir():
        return lambda: report_page([target])
    if target.suffix == ".npz":
        return lambda: views_page(target)
    return lambda: mesh_page(target)


def mesh_page(path: Path) -> str:
    """A page with one mesh to turn."""
    mesh = load_mesh(path)
    return render_template(
        "object.html.j2",
        title=path.name,
        subtitle=f"{len(mesh.vertices):,} vertices, {len(mesh.faces):,} faces",
        figure_json=mesh_figure(np.asarray(mesh.vertices), np.asarray(mesh.faces)).to_json(),
        label=f"The mesh {path.name}; drag to turn it",
        pictures=[],
    )


def views_page(path: Path) -> str:
    """A page with a viewpoint set's cameras in space and its images, at most `GALLERY` of them."""
    views = load_views(path)
    chosen = np.unique(np.linspace(0, len(views) - 1, GALLERY).round().astype(int))
    return render_template(
        "object.html.j2",
        title=path.name,
        subtitle=f"{len(views)} views of {views.width}×{views.height} pixels",
        figure_json=cameras_figure(views).to_json(),
        label=f"The {len(views)} cameras around the unit sphere; drag to turn",
        pictures=[{"view": int(i), "uri": picture_uri(tone_map(views.images[i]))} for i in chosen],
    )
