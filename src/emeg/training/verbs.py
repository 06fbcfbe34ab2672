"""The verbs that train: return the model if it exists, else start the training in separate processes and wait.

This module imports no network library, so that finding a finished model is fast.
"""

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

from emeg.progress import Progress, silent
from emeg.store import Store
from emeg.training.configs import PretrainConfig, TrainingConfig, TrainResult, TrainTokenizerConfig
from emeg.training.division import fit_memory, join_run
from emeg.training.exclusive import training_across_machines, training_alone
from emeg.training.launch.jobs import JobNote, find_job, job_state, note_job
from emeg.training.launch.launcher import count_nodes, count_ranks, is_launched, launch
from emeg.training.launch.preflight import check_checkpoints, check_data, check_launch, find_gpu
from emeg.training.loop.rank import find_run
from emeg.training.product_names import encoder_name, finished, tokenizer_name, with_sensor_kinds

C = TypeVar("C", bound=TrainingConfig)


def train_tokenizer(config: TrainTokenizerConfig, *, progress: Progress = silent) -> TrainResult:
    """Train a tokenizer on a corpus, in processes of its own unless they are there already (torchrun, Slurm).

    Raises
    ------
    UserError
        There is no such corpus or recipe, or a loss is not finite.
    StoppedError
        The run received a stop signal; the same call continues from its checkpoint.
    TransientError
        Ranks that torchrun or a scheduler has started find that another process trains the model.
    MachineError
        There is no space or no right to write.
    RuntimeError
        The training process crashed.
    """
    return _train("train-tokenizer", config, "corpora", "corpus", tokenizer_name, progress)


def pretrain(config: PretrainConfig, *, progress: Progress = silent) -> TrainResult:
    """Train an encoder on stored tokens, in processes of its own unless they are there already.

    Raises
    ------
    UserError
        There are no such tokens, no such recipe, or a loss is not finite.
    StoppedError
        The run received a stop signal; the same call continues from its checkpoint.
    TransientError
        Ranks that torchrun or a scheduler has started find that another process trains the model.
    MachineError
        There is no space or no right to write.
    RuntimeError
        The training process crashed.
    """
    return _train("pretrain", config, "tokens", "tokens", encoder_name, progress)


def _train(
    verb: str,
    config: C,
    kind: str,
    field: str,
    name_of: Callable[[C], str],
    progress: Progress,
) -> TrainResult:
    """Find the model, or what it is trained on (`field`, in `kind`), and train."""
    store = Store.open(config.root)
    config = config.model_copy(update={field: store.only(kind, getattr(config, field))})
    config = with_sensor_kinds(store, config)
    known = {child.name for made in ("models", "runs") for child in store.children(made)}
    gpu = None if is_launched(os.environ) else find_gpu(config)  # a launched process gets the division
    if gpu is not None:
        is_bf16 = config.precision != "32-true" and gpu.has_bf16
        config = fit_memory(config, memory_gib=gpu.memory_gib, is_bf16=is_bf16)
    config = join_run(config, count_ranks(config, os.environ), exists=lambda one: name_of(one) in known)
    name = name_of(config)
    if store.has("models", name):
        return finished(store, name)
    check_data(store, config)
    if is_launched(os.environ):
        check_checkpoints(config, nodes=count_nodes(config, os.environ))
        is_first = os.environ["RANK"] == "0"
        with training_across_machines(store, name) if is_first else nullcontext():
            return _run(verb, config, name, progress)
    if config.launcher != "local" or config.nodes > 1:
        return _run(verb, config, name, progress)
    with training_alone(store, name, progress):
        if store.has("models", name):  # another process trained it in the meantime
            return finished(store, name)
        return _run(verb, config, name, progress)


def _run(verb: str, config: TrainingConfig, name: str, progress: Progress) -> TrainResult:
    if config.launched and not is_launched(os.environ):
        check_launch(config)
        return _elsewhere(verb, config, name, progress)
    from emeg.training.launch.worker import find_verb

    _, here = find_verb(verb)
    return TrainResult.model_validate(here(config, progress=progress).model_dump())


def _note(config: TrainingConfig, folder: Path, job: str) -> None:
    """Record a submitted job; a script or manifest that was only written is none."""
    if config.launcher == "slurm" and config.slurm.submit:
        note_job(folder, JobNote(launcher="slurm", job=job.rpartition(" ")[2]))
    elif config.launcher == "kubernetes" and config.kubernetes.submit:
        note = JobNote(launcher="kubernetes", job=job.rpartition(" ")[2], namespace=config.kubernetes.namespace)
        note_job(folder, note)


def _elsewhere(verb: str, config: TrainingConfig, name: str, progress: Progress) -> TrainResult:
    """Train in other processes, here or on a scheduler's machines; those are not waited for."""
    run = find_run(config, name, {})
    if config.launcher == "local":
        return TrainResult.model_validate(launch(verb, config, signs=run.folder / "heartbeats", progress=progress))
    if config.launcher == "slurm":
        from emeg.training.launch.slurm import submit_slurm as submit
    else:
        from emeg.training.launch.trainjob import submit_trainjob as submit
    running = find_job(run.folder)
    if running is not None and job_state(running)[0] != "ended":
        job = f"{running.launcher} job {running.job}"  # one job trains a model at a time
    else:
        job = submit(verb, config, run.folder)
        _note(config, run.folder, job)
    return TrainResult(model=name, run=name, steps=0, seconds=0.0, metrics={}, done_before=False, job=job)
