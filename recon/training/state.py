"""The state of a run that is not over: from it the same command goes on.

    checkpoints/state.pt            the last one, replaced every now and then
    checkpoints/state.previous.pt   the one before, should the last be damaged

Both are side files, which no workflow removes with the outputs of a job that failed.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from recon.errors import ReconError
from recon.files import atomic
from recon.model.file import check_format, pack, read_content
from recon.run_folder import VERSION, RunFolder

Restart = Literal["always", "changed"]


class StateFile:
    """The state in the run folder `run` of the training that `training` describes.

    `training` maps names to what changes the result: dotted configuration keys, the budget, digests
    of the data. A state belongs to it only where all of them are the same.
    """

    def __init__(self, run: RunFolder, training: Mapping[str, Any]) -> None:
        self.path = run.state
        self.previous = run.previous_state
        self._lock = run.lock
        self._training = dict(training)

    def save(self, content: Mapping[str, Any]) -> None:
        """Keep `content`, on the disk when this returns.

        Raises:
            ReconError: it cannot be written; the states there are stay.
        """
        data = pack({"format": VERSION, "training": self._training, **content})
        with atomic(self.path) as temporary:
            temporary.write_bytes(data)
            if self.path.exists():
                os.replace(self.path, self.previous)

    def resume(self, restart: Restart | None = None) -> dict[str, Any] | None:
        """The state to go on from, or None to begin; then no side file of another training is left.

        `restart` discards the state that is there: always, or only where its training has changed.

        Raises:
            ReconError: the state belongs to another training, or every state is damaged.
        """
        state = None if restart == "always" else self.load()
        difference = None if state is None else self.difference(state)
        if difference is not None:
            if restart is None:
                raise ReconError(
                    f"{self.path}: belongs to another training: {difference}; "
                    "choose another folder, or discard what is there with --restart"
                )
            print(f"recon: training anew: {difference}", file=sys.stderr)
            state = None
        if state is None:
            self._clear()
        return state

    def load(self) -> dict[str, Any] | None:
        """The last state that can be read; a damaged one costs a warning. None where there is none.

        Raises:
            ReconError: every state is damaged.
        """
        damaged: list[str] = []
        for path in (self.path, self.previous):
            if not path.exists():
                continue
            try:
                content = _read(path)
            except ReconError as error:
                damaged.append(str(error))
                continue
            for message in damaged:
                print(f"recon: warning: {message}; going on from {path.name}", file=sys.stderr)
                self.path.unlink()  # it would become the previous one
            return content
        if damaged:
            raise ReconError(f"{damaged[0]}; there is no other to go on from: --restart discards it")
        return None

    def difference(self, state: Mapping[str, Any]) -> str | None:
        """What the training of `state` has otherwise than this one, in words; None where they are the same."""
        theirs = state["training"]
        for key in (*self._training, *theirs):
            if (key in theirs, theirs.get(key)) != (key in self._training, self._training.get(key)):
                return f"{key} is {_shown(theirs, key)} there and {_shown(self._training, key)} here"
        return None

    def forget_previous(self) -> None:
        """Of a run that is over one state is enough."""
        self.previous.unlink(missing_ok=True)

    def _clear(self) -> None:
        # The states first: no later one may be taken for the continuation of files that are gone.
        for path in (self.path, self.previous):
            path.unlink(missing_ok=True)
        for path in self.path.parent.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path != self._lock:
                path.unlink()


def _read(path: Path) -> dict[str, Any]:
    content = read_content(path, "state of a training")
    check_format(content, path, "state")
    return content


def _shown(values: Mapping[str, Any], key: str) -> str:
    return str(values[key]) if key in values else "not known"
