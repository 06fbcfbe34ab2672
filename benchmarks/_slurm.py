"""A private Slurm of one node on this machine, from the system's packages, for tests and benchmarks."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "scancel", "scontrol", "squeue")


def missing() -> str | None:
    """Return what keeps a Slurm from running here; `None` if it can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    if absent:
        return f"no Slurm on this machine ({', '.join(absent)} missing; Debian: slurm-wlm munge)"
    return None if os.geteuid() == 0 else "a private Slurm needs root"


def free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def write_conf(folder: Path, host: str, munge_socket: Path) -> Path:
    """Write the configuration of the node and return its path."""
    conf = folder / "slurm.conf"
    conf.write_text(
        f"""ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={free_port()}
SlurmdPort={free_port()}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5,socket={munge_socket}
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_min_interval=1000000,bf_interval=2
ReturnToService=2
MpiDefault=none
KillWait=60
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
    )
    for name in ("state", "spool"):
        (folder / name).mkdir()
    return conf


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Start a cluster and yield the environment in which sbatch and the others find it."""
    host = socket.gethostname().split(".")[0]
    munge = pwd.getpwnam("munge")
    private = Path(f"/run/emeg-munge-{os.getpid()}")
    private.mkdir(mode=0o755)
    os.chown(private, munge.pw_uid, munge.pw_gid)
    key = private / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    os.chown(key, munge.pw_uid, munge.pw_gid)
    conf = write_conf(folder, host, private / "socket")
    environment = {**os.environ, "SLURM_CONF": str(conf), "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    files = {"key-file": key, "socket": private / "socket", "pid-file": private / "pid"}
    files |= {"log-file": private / "log", "seed-file": private / "seed"}
    command = ["munged", "-F", *(f"--{name}={path}" for name, path in files.items())]
    daemons = [subprocess.Popen(command, user="munge", group="munge", env=environment)]
    try:
        wait_until(lambda: (private / "socket").exists(), 20, "munged")
        quiet = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        daemons.append(subprocess.Popen(["slurmctld", "-D", "-f", conf], **quiet))
        daemons.append(subprocess.Popen(["slurmd", "-D", "-f", conf, "-N", host], **quiet))
        wait_until(lambda: "idle" in ask(environment, "sinfo", "-h", "-o", "%T"), 60, "an idle node")
        yield environment
    finally:
        subprocess.run(["scancel", "--partition=main"], env=environment, capture_output=True, check=False)
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(private)


def ask(environment: dict[str, str], *command: str) -> str:
    """Run a command and return its standard output."""
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout


def wait_until(condition: Callable[[], bool], limit_s: float, what: str) -> None:
    """Wait until a condition holds; fail after `limit_s` seconds."""
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, f"{what}: not within {limit_s} s"
        time.sleep(0.3)
