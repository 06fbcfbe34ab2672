"""Loggers that draw the metrics of a run as curves, chosen by one option and imported only when they are used.

The history in ``metrics.csv`` has the same metrics whatever is chosen. A resumed run continues its curves.
"""

import os
import uuid
from pathlib import Path
from typing import Literal

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from emeg.training.configs import TrainingConfig
from emeg.training.launch.preflight import check_tracker
from emeg.training.loop.rank import RunContext

PROJECT = "emeg"
"""Experiment of MLflow and project of Weights & Biases that all runs belong to."""

MLFLOW_RUN = "mlflow-run"
"""File in the run's folder with the id that MLflow gave the run."""


class RunTensorBoardLogger(TensorBoardLogger):
    """Write TensorBoard's event files, each under a name of its own.

    Lightning closes the logger at the end of training, and the final validation opens it again. The name that
    TensorBoard gives a file has a resolution of one second, so a file opened within the same second would replace the
    first one; an identifier in the name prevents it.
    """

    def __init__(self, save_dir: Path, name: str, version: str) -> None:
        super().__init__(save_dir, name=name, version=version, filename_suffix=_suffix())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the file; the next metric opens another one."""
        super().finalize(status)
        self._experiment = None
        self._kwargs["filename_suffix"] = _suffix()


def _suffix() -> str:
    """Return an ending for the name of an event file that no other file has."""
    return f".{uuid.uuid4().hex[:12]}"


def make_logger(config: TrainingConfig, run: RunContext) -> Logger | Literal[False]:
    """Create the logger that ``tracking`` names; `False` if none is wanted.

    TensorBoard's files are in the run's folder. MLflow logs to ``MLFLOW_TRACKING_URI``, or to a SQLite database in the
    run's folder. Weights & Biases works offline in the run's folder unless ``WANDB_MODE=online`` is set; ``wandb sync``
    uploads such a run later.

    Raises
    ------
    UserError
        The package is not installed; the message names the extra that has it.
    """
    if config.tracking == "none":
        return False
    if config.tracking == "tensorboard":
        return RunTensorBoardLogger(run.folder, name="", version="tensorboard")
    check_tracker(config.tracking)
    return _mlflow(config, run) if config.tracking == "mlflow" else _wandb(config, run)


def _mlflow(config: TrainingConfig, run: RunContext) -> Logger:
    """Create a logger for MLflow. The run's id is kept in a file, by which a resumed run finds its curves."""
    from lightning.pytorch.loggers import MLFlowLogger

    run.folder.mkdir(parents=True, exist_ok=True)
    noted = run.folder / MLFLOW_RUN
    logger = MLFlowLogger(
        experiment_name=PROJECT,
        run_name=run.folder.name,
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run.folder / 'mlflow.db'}",
        tags={"emeg.root": config.root},
        run_id=noted.read_text(encoding="utf-8") if noted.exists() else None,
    )
    if run.is_first and not noted.exists():
        noted.write_text(str(logger.run_id), encoding="utf-8")
    return logger


def _wandb(config: TrainingConfig, run: RunContext) -> Logger:
    """Create a logger for Weights & Biases that leaves standard output alone: the launcher reads progress there."""
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    folder = Path(run.folder)
    folder.mkdir(parents=True, exist_ok=True)
    return WandbLogger(
        name=folder.name,
        id=folder.name,
        project=PROJECT,
        save_dir=folder,
        offline=os.environ.get("WANDB_MODE", "offline") != "online",
        resume="allow",
        config={"root": config.root, "recipe": config.recipe},
        settings=wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True),
    )
