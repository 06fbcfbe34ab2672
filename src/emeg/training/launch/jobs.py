"""Jobs of a scheduler: which job trains a model, whether it still runs, and how it is cancelled.

The note ``job.json`` in the run's folder names the job, so that the next call adopts it instead of submitting another.
"""

import json
import re
import subprocess
from pathlib import Path
from typing import Literal

from emeg.config import Config
from emeg.errors import TransientError
from emeg.uri import locate

NOTE = "job.json"
"""File in the run's folder."""

State = Literal["waiting", "running", "ended"]

_SLURM_WAITING = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SUSPENDED", "RESIZING"}
)
_SLURM_RUNNING = frozenset({"RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "STOPPED"})


_POD_LABEL = "jobset.sigs.k8s.io/jobset-name"
"""Label of the pods of a TrainJob: its JobSet has the same name."""


class JobNote(Config):
    """The job that trains a model."""

    launcher: Literal["slurm", "kubernetes"]
    """Scheduler that has the job."""
    job: str
    """Number or name of the job in the scheduler."""
    namespace: str = ""
    """Namespace of Kubernetes."""
    attempts: int = 1
    """Times a job was submitted for this model by the same follower."""

    def log_of(self, folder: Path) -> Path:
        """Return the log file of the job."""
        return folder / f"{self.launcher}-{self.job}.log"


def note_job(folder: Path, note: JobNote) -> None:
    """Write the note."""
    locate(folder / NOTE).write_json(note.model_dump(mode="json"))


def find_job(folder: Path) -> JobNote | None:
    """Return the job that was last submitted from a run's folder."""
    file = locate(folder / NOTE)
    return JobNote.checked(file.read_json(), source=str(file)) if file.exists() else None


def job_state(note: JobNote) -> tuple[State, str]:
    """Return whether a job waits, runs or has ended, and the scheduler's name of its state.

    Raises
    ------
    TransientError
        The scheduler does not answer.
    """
    return _slurm_state(note.job) if note.launcher == "slurm" else _kubernetes_state(note)


def _slurm_state(job: str) -> tuple[State, str]:
    done = _ask("scontrol", "show", "job", "-o", job)
    if done.returncode != 0:
        reason = " ".join(done.stderr.split())
        if "Invalid job id" in reason:  # the controller forgets a job some minutes after its end
            return "ended", "unknown to Slurm"
        raise TransientError(f"slurm job {job}: scontrol does not answer ({reason}); try again")
    found = re.search(r"JobState=(\w+)", done.stdout)
    word = found[1] if found else "UNKNOWN"
    return ("waiting" if word in _SLURM_WAITING else "running" if word in _SLURM_RUNNING else "ended"), word


def _kubernetes_state(note: JobNote) -> tuple[State, str]:
    done = _ask("kubectl", "get", "trainjob", note.job, "-n", note.namespace, "-o", "json")
    if done.returncode != 0:
        reason = " ".join(done.stderr.split())
        if "NotFound" in reason:
            return "ended", "deleted"
        raise TransientError(f"trainjob {note.job}: kubectl does not answer ({reason}); try again")
    conditions = json.loads(done.stdout).get("status", {}).get("conditions", [])
    words = [entry["type"] for entry in conditions if entry.get("status") == "True"]
    ended = [word for word in words if word in ("Complete", "Failed")]
    return ("ended", ended[0]) if ended else ("running", ", ".join(words) or "created")


def clear_ended(note: JobNote) -> None:
    """Delete a TrainJob that has ended, so that one of the same name can be created; applying it again does nothing.

    Raises
    ------
    TransientError
        The API server does not answer.
    """
    if job_state(note)[0] == "ended":
        done = _ask(
            "kubectl", "delete", "trainjob", note.job, "-n", note.namespace, "--ignore-not-found", "--wait=true"
        )
        if done.returncode != 0:
            raise TransientError(f"trainjob {note.job}: not deleted: {' '.join(done.stderr.split())}")


def read_pod_logs(note: JobNote, n_lines: int) -> str:
    """Return the last lines that each pod of a TrainJob has written; empty if there is no pod any more."""
    pods = f"{_POD_LABEL}={note.job}"
    done = _ask(
        "kubectl", "logs", "-n", note.namespace, "-l", pods, f"--tail={n_lines}", "--prefix", "--all-containers"
    )
    return done.stdout.strip()


def cancel_job(note: JobNote) -> None:
    """Cancel a job; its ranks receive a stop signal and write a checkpoint.

    Raises
    ------
    TransientError
        The scheduler does not answer.
    """
    if note.launcher == "slurm":
        # after a stop signal, the batch script would queue the job again, as it does after a pre-emption
        _ask("scontrol", "update", f"JobId={note.job}", "Requeue=0")
        done = _ask("scancel", "--full", note.job)
    else:
        done = _ask("kubectl", "delete", "trainjob", note.job, "-n", note.namespace, "--wait=false")
    if done.returncode != 0:
        raise TransientError(f"{note.launcher} job {note.job}: not cancelled: {' '.join(done.stderr.split())}")


def _ask(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise TransientError(
            f"{command[0]}: not on this machine, or no answer within 60 s ({error}); try again where it is installed"
        ) from error
