"""An open run of MLflow."""

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from recon.errors import ReconError
from recon.tracking.courier import Courier
from recon.tracking.curves import LARGEST_BATCH, Curves, Value, send_values
from recon.tracking.record import texts
from recon.tracking.renders import Renders

if TYPE_CHECKING:
    from mlflow import MlflowClient

LARGEST_PARAMETER_BATCH = 100  # MLflow's limit of parameters in one request


class Tracker:
    """An open MLflow run. Every call returns at once; one thread talks to the store.

    With the folder `out`, metrics are the rows of its CSV files, and renders are kept there; both are
    sent when they are released, which is when a checkpoint holds what they tell of. So a run that goes
    on from its checkpoint repeats nothing.

    Attributes:
        run_id: MLflow's name of the run.
    """

    def __init__(
        self, run_id: str, opened: "Callable[[], MlflowClient]", out: Path | None = None, advice: Path | None = None
    ) -> None:
        """`opened` gives the client when it is first needed; `advice` is the folder to deliver later."""
        self.run_id = run_id
        self._opened = opened
        self._advice = advice or out
        self._courier = Courier()
        self._curves = Curves(out) if out else None
        self._renders = Renders(out) if out else None
        self._waiting: list[Path] = []
        self._values: list[Value] = []

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Parameters of the run: flat, written once."""
        self.submit("parameters", lambda client: send_params(client, self.run_id, texts(params)))

    def log_metrics(self, metrics: Mapping[str, float], step: int, time: int | None = None) -> None:
        """Values of `step` that stand in no CSV file, at the Unix time `time` in milliseconds (now)."""
        moment = now() if time is None else time
        self._values += [Value(name, float(value), moment, step) for name, value in metrics.items()]
        if self._curves is None and len(self._values) > LARGEST_BATCH - len(metrics):
            self.release()

    def log_image(self, name: str, image: UInt8[np.ndarray, "h w 3"], step: int) -> None:
        """A picture in the run's image browser, one of a series along `step`."""
        if self._renders is None:
            picture, moment = image.copy(), now()
            self.submit(
                f"{name} {step}",
                lambda client: client.log_image(
                    self.run_id, picture, key=name, step=step, timestamp=moment, synchronous=True
                ),
            )
            return
        try:
            self._waiting.append(self._renders.keep(name, image, step))
        except ReconError as error:  # a picture less is no reason to end a training
            print(f"recon: warning: {error}", file=sys.stderr)

    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """A copy of the file `path`, under `folder` of the run's artifacts."""
        self.submit(str(path), lambda client: client.log_artifact(self.run_id, str(path), folder))

    def log_text(self, name: str, text: str) -> None:
        """`text` as the artifact file `name`."""
        self.submit(name, lambda client: client.log_text(self.run_id, text, name))

    def release(self) -> None:
        """Hand over what was written and logged so far."""
        values, self._values = self._values, []
        if values:
            self.submit("values", lambda client: send_values(client, self.run_id, values))
        if self._curves and (curves := self._curves):
            sizes = curves.sizes()
            self.submit("metrics", lambda client: curves.send(client, self.run_id, sizes))
        waiting, self._waiting = self._waiting, []
        for path in waiting:
            self._submit_render(path)

    def deliver(self, out: Path) -> None:
        """Send what the store has not got of the folder `out`, its renders as far as its history goes."""
        self._curves, self._renders = curves, renders = Curves(out), Renders(out)
        sizes = curves.sizes()
        self.submit("metrics", lambda client: curves.learn(client, self.run_id))
        self.submit("metrics", lambda client: curves.send(client, self.run_id, sizes))
        self.submit("renders", lambda client: renders.learn(client, self.run_id))
        for path in renders.kept(curves.last_step()):
            self._submit_render(path)

    def submit(self, name: str, job: "Callable[[MlflowClient], object]") -> None:
        """Do `job` in the thread that talks to the store, after all that came before."""
        self._courier.submit(name, lambda: job(self._opened()))

    def close(self, seconds: float) -> bool:
        """Wait `seconds` at most until the store has everything. The last call to make.

        Returns:
            Whether it has; else a warning was given.
        """
        self.release()
        reason = self._courier.close(seconds)
        if reason is not None:
            advice = f"; `recon sync {self._advice}` delivers the rest" if self._advice else ""
            print(f"recon: warning: MLflow did not take everything: {reason}{advice}", file=sys.stderr)
        return reason is None

    def _submit_render(self, path: Path) -> None:
        renders = self._renders
        assert renders is not None
        self.submit(str(path), lambda client: renders.send(client, self.run_id, path))


def send_params(client: "MlflowClient", run_id: str, params: Mapping[str, str]) -> None:
    """Send the parameters that the run has not got: MLflow's cannot change."""
    from mlflow.entities import Param

    stored = client.get_run(run_id).data.params
    missing = [Param(key, text) for key, text in params.items() if key not in stored]
    for start in range(0, len(missing), LARGEST_PARAMETER_BATCH):
        client.log_batch(run_id, params=missing[start : start + LARGEST_PARAMETER_BATCH])


def now() -> int:
    return int(time.time() * 1000)
