"""Follow a job of a scheduler until the model exists, submit it again if it dies, and cancel it on request."""

import csv
import io
import logging
import time
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from emeg.errors import StoppedError, TransientError, UserError
from emeg.metrics import LOSS, SEGMENTS_PER_S
from emeg.progress import Progress
from emeg.store import Store
from emeg.training.configs import TrainingConfig, TrainResult
from emeg.training.launch.jobs import JobNote, cancel_job, find_job, job_state, note_job, read_pod_logs
from emeg.training.launch.slurm import submit_slurm
from emeg.training.launch.trainjob import submit_trainjob
from emeg.training.loop.rank import RunContext, find_run
from emeg.training.product_names import finished
from emeg.uri import locate

logger = logging.getLogger(__name__)

POLL_S = 5.0
"""Seconds between two checks of a job."""

SETTLE_S = 10.0
"""Seconds after the end of a job in which its model may still appear on a network file system."""

TAIL_LINES = 15
"""Lines of the log in the error of a job that did not finish."""


class Standing(NamedTuple):
    """How far a job has come, from the history in the run's folder."""

    step: int
    loss: float | None
    segments_per_s: float | None
    seconds: float

    def as_text(self, n_steps: int | None) -> str:
        """Return the standing in one line, with the time left where the number of steps is known."""
        parts = [f"step {self.step}" + (f" of {n_steps}" if n_steps else "")]
        parts += [f"loss {self.loss:.4g}"] if self.loss is not None else []
        parts += [f"{self.segments_per_s:.4g} segments/s"] if self.segments_per_s is not None else []
        if n_steps and self.step:
            parts.append(f"{self.seconds / self.step * (n_steps - self.step) / 60:.0f} min left")
        return ", ".join(parts)


def follow(
    verb: str,
    config: TrainingConfig,
    result: TrainResult,
    *,
    progress: Progress,
    restarts: int = 2,
    is_cancelled: Callable[[], bool] = lambda: False,
    poll_s: float = POLL_S,
) -> TrainResult:
    """Wait until the job of a training has published its model.

    Parameters
    ----------
    verb : str
        ``train-tokenizer`` or ``pretrain``.
    config : TrainingConfig
        Its parameters, as they were submitted.
    result : TrainResult
        What the verb returned at submission.
    restarts : int
        Times a job that ended without a model is submitted again; it continues from its newest checkpoint.
    is_cancelled : callable
        Function that returns whether the job is to be cancelled; called at each check and when this process receives
        a stop signal.

    Raises
    ------
    StoppedError
        The job was cancelled.
    RuntimeError
        The job ended without a model more often than `restarts`; the message has the end of its log.
    """
    store, run = Store.open(config.root), find_run(config, result.model, {})
    try:
        while not store.has("models", result.model):
            if is_cancelled():
                _refuse_cancelled(verb, result)
            _look(verb, config, store, run, result.model, progress, restarts)
            time.sleep(poll_s)
    except BaseException:
        note = find_job(run.folder)
        if note is not None and is_cancelled():
            logger.warning("%s: cancel %s job %s", verb, note.launcher, note.job)
            cancel_job(note)
        raise
    return finished(store, result.model).model_copy(update={"done_before": False})


def _refuse_cancelled(verb: str, result: TrainResult) -> NoReturn:
    raise StoppedError(
        f"{verb}: {result.job} is cancelled; run the same command again to continue from its newest checkpoint"
    )


def _look(
    verb: str,
    config: TrainingConfig,
    store: Store,
    run: RunContext,
    model: str,
    progress: Progress,
    restarts: int,
) -> None:
    note = find_job(run.folder)
    if note is None:
        raise UserError(f"{run.folder}: names no job; submit the training again")
    try:
        state, word = job_state(note)
    except TransientError as error:
        logger.warning("%s; asked again in some seconds", error)
        return
    standing = read_standing(run)
    n_steps = config.steps
    progress(standing.step, max(n_steps or 0, standing.step + 1), f"{word.lower()}: {standing.as_text(n_steps)}")
    if state != "ended":
        return
    end = time.monotonic() + SETTLE_S
    while time.monotonic() < end:
        if store.has("models", model):
            return
        time.sleep(1.0)
    if note.attempts > restarts:
        raise RuntimeError(
            f"{verb}: {note.launcher} job {note.job} ended as {word} without a model, after {note.attempts} attempts."
            f" End of its log:\n{read_tail(run, note)}"
        )
    submit = submit_slurm if note.launcher == "slurm" else submit_trainjob
    job = submit(verb, config, run.folder)
    logger.warning(
        "%s: %s job %s ended as %s without a model; submitted again: %s", verb, note.launcher, note.job, word, job
    )
    again = {"job": job.rpartition(" ")[2], "attempts": note.attempts + 1}
    note_job(run.folder, note.model_copy(update=again))


def read_standing(run: RunContext) -> Standing:
    """Read how far a run has come."""
    file = locate(run.folder / "metrics.csv")
    if not file.exists():
        return Standing(0, None, None, 0.0)
    step, seconds = 0, 0.0
    newest: dict[str, float] = {}
    for row in csv.DictReader(io.StringIO(file.read_bytes().decode())):
        if row["split"] == "train" and row["value"]:
            step, seconds = int(row["step"]), float(row["seconds"] or 0.0)
            newest[row["name"]] = float(row["value"])
    return Standing(step, newest.get(LOSS), newest.get(SEGMENTS_PER_S), seconds)


def read_tail(run: RunContext, note: JobNote) -> str:
    """Return the last lines of a job's log: its file, or what its pods have written."""
    if note.launcher == "kubernetes":
        return read_pod_logs(note, TAIL_LINES) or "(its pods are gone)"
    file = locate(note.log_of(run.folder))
    if not file.exists():
        return "(there is no log file)"
    return "\n".join(file.read_bytes().decode(errors="replace").splitlines()[-TAIL_LINES:])
