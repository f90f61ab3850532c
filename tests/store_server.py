"""A real MLflow server, and a proxy before it that fails in the ways that networks do."""

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HOST = "127.0.0.1"


@contextmanager
def mlflow_server(store: str, folder: Path) -> Iterator[int]:
    """`mlflow server` on the database `store`; gives its port."""
    port = free_port()
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--workers", "1"]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--host", HOST, "--port", str(port)]
    with open(folder / "server.log", "w") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
        try:
            _wait_until_healthy(process, port, folder / "server.log")
            yield port
        finally:
            process.terminate()
            process.wait(60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def _wait_until_healthy(process: subprocess.Popen, port: int, log: Path) -> None:
    for _ in range(3000):
        with suppress(OSError), urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5):
            return
        if process.poll() is not None:
            break
        time.sleep(0.2)
    raise AssertionError(log.read_text())


class Proxy:
    """Passes connections on to `port` of this machine.

    Attributes:
        mode: "up"; "down": every connection is reset; "mute": requests arrive, but their answers are
            lost; "hang": nothing is ever answered.
        requests: how many pieces of requests were passed on.
    """

    def __init__(self, port: int) -> None:
        self.mode = "up"
        self.requests = 0
        self._port = port
        self._listener = socket.create_server((HOST, 0))
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def uri(self) -> str:
        return f"http://{HOST}:{self._listener.getsockname()[1]}"

    def set(self, mode: str) -> None:
        """Change the mode, and reset the connections there are."""
        self.mode = mode
        for connection in list(self._open):
            _close(connection)

    def close(self) -> None:
        _close(self._listener)
        self.set("down")

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.add(client)
                if self.mode == "down":
                    _close(client)
                elif self.mode in ("up", "mute"):
                    server = socket.create_connection((HOST, self._port))
                    self._open.add(server)
                    threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()
                    threading.Thread(target=self._answer, args=(server, client, self.mode), daemon=True).start()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while piece := client.recv(1 << 16):
                self.requests += 1
                server.sendall(piece)
        _close(server)

    def _answer(self, server: socket.socket, client: socket.socket, mode: str) -> None:
        with suppress(OSError):
            while piece := server.recv(1 << 16):
                if mode == "mute":
                    break
                client.sendall(piece)
        _close(client)
        _close(server)


def _close(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
