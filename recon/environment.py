"""What a run was made with: the code, the machine, the cluster's job; and where another renderer is installed."""

import getpass
import importlib.util
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

SLURM = {
    "slurm.job_id": "SLURM_JOB_ID",
    "slurm.array_job_id": "SLURM_ARRAY_JOB_ID",
    "slurm.array_task_id": "SLURM_ARRAY_TASK_ID",
    "slurm.cluster": "SLURM_CLUSTER_NAME",
    "slurm.partition": "SLURM_JOB_PARTITION",
    "slurm.node": "SLURMD_NODENAME",
    "slurm.restarts": "SLURM_RESTART_COUNT",
}


def environment_tags() -> dict[str, str]:
    """The command, its surroundings, and what `RECON_TAGS` (a=b,c=d) adds: the rule under Snakemake."""
    pairs = (pair.partition("=") for pair in os.environ.get("RECON_TAGS", "").split(",") if pair)
    return {
        "mlflow.source.name": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "mlflow.source.type": "LOCAL",
        **_user(),
        **commit_tags(),
        **machine_tags(),
        **{tag: os.environ[name] for tag, name in SLURM.items() if os.environ.get(name)},
        **{key: value for key, _, value in pairs if key},
    }


def machine_tags() -> dict[str, str]:
    """Host, Python, torch, and what torch computes on."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "none",
        "device": device,
        "threads": str(torch.get_num_threads()),
    }


def commit_tags() -> dict[str, str]:
    """The commit of recon's own sources; nothing where they are installed from a package."""
    here = Path(__file__)
    tracked = _git(here.parent, "ls-files", "--error-unmatch", here.name)
    commit = _git(here.parent, "rev-parse", "HEAD")
    if not tracked or not commit:
        return {}
    dirty = bool(_git(here.parent, "status", "--porcelain", "--untracked-files=no"))
    return {"mlflow.source.git.commit": commit, "git.dirty": str(dirty).lower()}


def packages() -> str:
    """Every installed package with its version, in the form of pip's requirements.

    From the names of the folders that say so: reading what is in them would take a second.
    """
    folders = (folder for place in sys.path for folder in Path(place or ".").glob("*.dist-info"))
    found = {name.lower(): f"{name}=={version}" for name, _, version in (each.stem.rpartition("-") for each in folders)}
    return "".join(f"{found[name]}\n" for name in sorted(found))


def _user() -> dict[str, str]:
    try:
        return {"mlflow.user": getpass.getuser()}
    except (KeyError, OSError):  # a container's user without a name
        return {}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def pytorch3d_command() -> str | None:
    """The `recon` of an environment that has PyTorch3D (`render.backend: pytorch3d`).

    That of this Python, or of the environment inside it that `make pytorch3d` makes; None where neither has it.
    """
    if importlib.util.find_spec("pytorch3d") is not None:
        return str(Path(sys.executable).parent / "recon")
    nested = Path(sys.prefix) / "pytorch3d"
    return str(nested / "bin" / "recon") if (nested / "installed").is_file() else None
