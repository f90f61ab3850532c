"""A Slurm of two nodes on this machine, for as long as a test needs it.

The daemons run in the foreground as children of this process, with all their files in one folder: no
systemd, no cgroups, no accounting. The nodes claim more processors than there are, and the second two
graphics cards, so that a profile for a cluster is used as it is.
"""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol")
PATIENCE = 120
"""Seconds that a daemon may take to start or stop."""

CONTROLLER = """
ClusterName=recon
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid

# One machine without systemd.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
PropagateResourceLimits=NONE
MpiDefault=none

# A busy machine is slow to answer, and tests look back on all jobs.
MinJobAge=7200
MessageTimeout=60
BatchStartTimeout=60
SchedulerParameters=sched_interval=5,bf_interval=5

GresTypes=gpu
NodeName=node1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]} CPUs=8 RealMemory=32000
NodeName=node2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]} CPUs=8 RealMemory=32000 Gres=gpu:2
PartitionName=cpu Nodes=node1 Default=YES
PartitionName=gpu Nodes=node2
"""

CARDS = """
NodeName=node2 Name=gpu File=/dev/null
NodeName=node2 Name=gpu File=/dev/zero
"""

# The plugin takes SLURM_CONF from the environment before it calls srun; clusters have theirs in /etc/slurm.
SRUN = """#!/bin/sh
SLURM_CONF={folder}/slurm.conf exec {srun} "$@"
"""


def missing() -> list[str]:
    """The programs of Slurm and Munge that this machine lacks."""
    return [name for name in (*DAEMONS, *COMMANDS) if _find(name) is None]


class Cluster:
    """A running cluster.

    Attributes:
        environment: of every process that talks to it.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)

    def ask(self, *command: str) -> str:
        """What a command of Slurm says."""
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=True, timeout=PATIENCE
        ).stdout

    def jobs(self) -> list[dict[str, str]]:
        """Every job since the start, with its fields as `scontrol show job` names them."""
        lines = self.ask("scontrol", "show", "jobs", "--oneliner").splitlines()
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines if "JobId=" in line]

    def cancel_all(self) -> None:
        """Leave no process of a job behind."""
        self.ask("scancel", "--user", self.environment["USER"])
        deadline = time.monotonic() + PATIENCE
        while self.ask("squeue", "--noheader") and time.monotonic() < deadline:
            time.sleep(0.5)


@contextmanager
def cluster(folder: Path, environment: Mapping[str, str]) -> Iterator[Cluster]:
    """Start a cluster whose files are in the empty `folder`; all of it ends with the block."""
    user = pwd.getpwuid(os.getuid()).pw_name
    _configure(folder, user)
    running = Cluster(
        {
            **environment,
            "USER": user,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": os.pathsep.join([str(folder / "bin"), environment.get("PATH", os.defpath)]),
        }
    )
    with ExitStack() as stack:
        stack.enter_context(_daemon(folder, running, "munged", *_munge_arguments(folder)))
        _wait(lambda: (folder / "munge.socket").exists(), folder, "munged")
        stack.enter_context(_daemon(folder, running, "slurmctld", "-D"))
        for node in ("node1", "node2"):
            stack.enter_context(_daemon(folder, running, "slurmd", "-D", "-N", node))
        _wait(lambda: _states(running) == ["idle", "idle"], folder, "slurmctld", "node1", "node2")
        stack.callback(running.cancel_all)
        yield running


def _configure(folder: Path, user: str) -> None:
    for name in ("bin", "state", "node1", "node2"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    host = socket.gethostname().partition(".")[0]
    (folder / "slurm.conf").write_text(CONTROLLER.format(host=host, user=user, folder=folder, ports=_free_ports(3)))
    (folder / "gres.conf").write_text(CARDS)
    (folder / "bin/srun").write_text(SRUN.format(folder=folder, srun=_find("srun")))
    (folder / "bin/srun").chmod(0o755)


def _munge_arguments(folder: Path) -> list[str]:
    files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    # By force, because a temporary folder's parents may be open to everybody.
    return ["--foreground", "--force", *(f"--{option}={folder}/munge.{suffix}" for option, suffix in files.items())]


@contextmanager
def _daemon(folder: Path, running: Cluster, name: str, *arguments: str) -> Iterator[None]:
    program = _find(name)
    assert program is not None
    log = folder / f"{arguments[-1] if name == 'slurmd' else name}.out"
    with log.open("w") as output:
        process = subprocess.Popen(
            [program, *arguments], env=running.environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _states(running: Cluster) -> list[str]:
    try:
        return running.ask("sinfo", "--noheader", "--Node", "--format=%T").split()
    except subprocess.CalledProcessError:
        return []  # slurmctld does not listen yet


def _wait(done: Callable[[], bool], folder: Path, *logs: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > deadline:
            raise RuntimeError("\n".join((folder / f"{log}.out").read_text()[-2000:] for log in logs))
        time.sleep(0.1)


def _find(name: str) -> str | None:
    """Daemons lie where a user's search path may not lead."""
    return shutil.which(
        name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    )


def _free_ports(count: int) -> Sequence[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
