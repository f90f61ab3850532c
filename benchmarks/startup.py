"""How long a person waits for `recon --help`."""

import subprocess
import sys

from benchmarks.timing import median_milliseconds


def help_time() -> str:
    def call() -> None:
        subprocess.run([sys.executable, "-m", "recon", "--help"], check=True, capture_output=True)

    return f"startup: recon --help takes {median_milliseconds(call, 7, 1) / 1000:.2f} s"
