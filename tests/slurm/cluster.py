"""A real SLURM of one node on loopback, for tests: munge, controller and node daemon in a folder of
their own.

    with Cluster(folder) as cluster:
        subprocess.run(["sbatch", ...], env=cluster.environment)

Debian's packages slurm-wlm and munge are installed where they are missing, if that is allowed
(tests/debian.py). What was started is stopped at the end, also after a failure. There is no
accounting and no cgroup: a poll each second kills a step that holds more memory than it asked for.

    PYTHONPATH=tests python tests/slurm/cluster.py COMMAND ...
    # runs a command, such as snakemake --profile slurm
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

import psutil
from debian import CannotRun, install

DAEMONS = ("munged", "slurmctld", "slurmd")
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo", "sacct")
PACKAGES = ("slurm-wlm", "munge")
PATIENCE = 60
"""Seconds that a daemon may take to answer."""

CPUS = 8
"""Processors that the node claims, whatever the machine has: tests are about requests, not
speed.
"""

CONFIG = """\
ClusterName=masf
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
JobRequeue=0
KillWait=2
MinJobAge=300
ReturnToService=2
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=localhost NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


def _missing() -> list[str]:
    return [name for name in (*DAEMONS, "sbatch") if shutil.which(name, path=_path()) is None]


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin"


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def recording(path: Path) -> str:
    """A line of a shell script that appends the script's arguments to a file, one call at a time;
    for ``recorded``.
    """
    return f"""{{ flock 9; printf '%s\\0' "$@" '' >&9; }} 9>> '{path}'"""


def recorded(path: Path) -> list[list[str]]:
    """The words of each call so far of a script with a line of ``recording``."""
    return (
        [call.split("\0") for call in path.read_text(encoding="utf-8").split("\0\0")[:-1]]
        if path.exists()
        else []
    )


class Cluster:
    """A running cluster; a context manager."""

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise CannotRun("SLURM's daemons need root, and this is another user")
        install(PACKAGES, _missing)
        # Not below pytest's folder: names of sockets are short.
        self.folder = Path(tempfile.mkdtemp(prefix="masf-slurm-"))
        self.daemons: list[subprocess.Popen] = []

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to find the cluster."""
        return os.environ | {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": f"{self.folder / 'bin'}:{_path()}",
        }

    def submitted(self) -> list[list[str]]:
        """The words of each call of sbatch so far."""
        return recorded(self.folder / "sbatch.calls")

    def __enter__(self) -> Cluster:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def run(self, *words: str) -> str:
        """The output of one of SLURM's commands."""
        done = subprocess.run(  # noqa: S603
            words,
            env=self.environment,
            text=True,
            capture_output=True,
            check=False,
            timeout=PATIENCE,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def _start(self) -> None:
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir()
        # SLURM takes SLURM_CONF out of its jobs' environment, but not this folder out of their
        # path.
        for name in COMMANDS:
            wrapper = self.folder / "bin" / name
            record = recording(self.folder / "sbatch.calls") if name == "sbatch" else ""
            wrapper.write_text(
                f'#!/bin/sh\nexport SLURM_CONF="{self.folder}/slurm.conf"\n{record}\n'
                f'exec "{shutil.which(name, path=_path())}" "$@"\n',
                encoding="utf-8",
            )  # fmt: skip
            wrapper.chmod(0o755)
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        controller_port, node_port = _free_ports(2)
        memory = psutil.virtual_memory().total // 2**20 * 9 // 10
        (self.folder / "slurm.conf").write_text(
            CONFIG.format(
                folder=self.folder,
                controller_port=controller_port,
                node_port=node_port,
                cpus=CPUS,
                memory=memory,
            ),
            encoding="utf-8",
        )
        (self.folder / "gres.conf").write_text(
            "NodeName=localhost Name=gpu File=/dev/null\n", encoding="utf-8"
        )
        munge = [
            f"--{name}={self.folder / 'munge'}.{name.split('-')[0]}"
            for name in ("socket", "pid-file", "log-file", "seed-file")
        ]
        self._daemon("munged", "--foreground", "--force", f"--key-file={key}", *munge)
        self._wait(lambda: (self.folder / "munge.socket").exists(), "munged")
        self._daemon("slurmctld", "-D")
        self._daemon("slurmd", "-D", "-N", "localhost")
        self._wait(lambda: "idle" in self.run("sinfo", "--noheader", "--format=%T"), "the node")

    def _daemon(self, *words: str) -> None:
        with (self.folder / f"{words[0]}.out").open("w") as out:
            daemon = subprocess.Popen(  # noqa: S603
                words,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.daemons.append(daemon)

    def _wait(self, ready: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            with suppress(RuntimeError):
                if ready():
                    return
            dead = [d.args[0] for d in self.daemons if d.poll() is not None]
            if dead or time.monotonic() > end:
                raise RuntimeError(
                    f"SLURM: {what} does not "
                    f"answer{f'; {dead} ended' if dead else ''}\n{self.logs()}"
                )
            time.sleep(0.1)

    def logs(self) -> str:
        """The last lines of what the daemons wrote."""
        files = [*sorted(self.folder.glob("*.out")), *sorted(self.folder.glob("*.log"))]
        return "\n".join(
            f"--- {f.name}\n" + "\n".join(f.read_text(errors="replace").splitlines()[-15:])
            for f in files
        )

    def _stop(self) -> None:
        with suppress(RuntimeError, subprocess.TimeoutExpired):
            if len(self.daemons) == len(DAEMONS):
                self.run("scancel", "--user=root")
        processes = [psutil.Process(d.pid) for d in self.daemons if d.poll() is None]
        # Steps outlive their daemon; they are known by its spool, which is in their command or
        # environment.
        processes += [
            p
            for p in psutil.process_iter(["name", "pid"])
            if p.info["name"] == "slurmstepd" and self._ours(p)
        ]
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(processes, timeout=10)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for daemon in self.daemons:
            daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ours(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            return process.environ().get("SLURM_CONF") == str(self.folder / "slurm.conf")
        return False


def main() -> int:
    """Runs the command in the arguments with a cluster."""
    with Cluster() as cluster:
        return subprocess.run(sys.argv[1:], env=cluster.environment, check=False).returncode  # noqa: S603


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
