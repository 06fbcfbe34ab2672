"""Trackers of a run: each writes metrics that its own reader finds, and a resumed run continues."""

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks._tiny import NETWORK
from tensorboardX.proto.event_pb2 import Event
from tests.messages import refusal

from emeg.errors import UserError
from emeg.store import Store
from emeg.training import TrainTokenizerConfig, train_tokenizer
from emeg.training.launch.preflight import check_tracker
from emeg.training.loop.rank import RunContext
from emeg.training.tracking.loggers import RunTensorBoardLogger, make_logger

STEPS = 6


def config_of(root: str, run_dir: Path, **changes: object) -> TrainTokenizerConfig:
    values = {"root": root, "run_dir": str(run_dir), "steps": STEPS, "ramp_steps": 2, "log_every": 2, "launched": False}
    values |= {"validate_every": 3, "validation_segments": 2, "final_segments": 2, "device": "cpu", "threads": 1}
    values |= {"overrides": NETWORK, "sampling": {"budget_channel_seconds": 40, "crop_s": 2.0, "micro_batches": 2}}
    return TrainTokenizerConfig.checked(values | changes, source="test")


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read TensorBoard's files as its format is described: length, checksum, event, checksum."""
    found: dict[str, list[tuple[int, float]]] = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        data, start = file.read_bytes(), 0
        while start < len(data):
            (length,) = struct.unpack_from("<Q", data, start)
            event = Event.FromString(data[start + 12 : start + 12 + length])
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
            start += length + 16
    return found


def losses(run: Path) -> dict[int, float]:
    rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    return {int(row[0]): float(row[3]) for row in rows if row[1:3] == ["train", "loss"]}


def weights(root: str, model: str) -> bytes:
    return (Path(root) / "models" / model / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def trained(root: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, bytes]:
    """A model trained with TensorBoard, its run, and its weights. The store can run the same training again."""
    folder = tmp_path_factory.mktemp("tracked")
    result = train_tokenizer(config_of(root, folder))
    kept = weights(root, result.model)
    Store.open(root).remove("models", result.model)
    return result.model, folder / result.model, kept


def test_tensorboard_has_loss_codebook_use_and_effective_rank(trained):
    _, run, _ = trained
    found = scalars(run / "tensorboard")
    assert dict(found["train/loss"]) == pytest.approx(losses(run))
    assert {step for step, _ in found["train/perplexity/0"]} == {2, 4, 6}
    assert all(1 <= value <= NETWORK["n_dim"] for _, value in found["validation/effective_rank"])


def test_a_logger_opened_again_within_the_same_second_keeps_the_earlier_metrics(tmp_path, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.25)
    for first in (1, 3):  # the second logger is that of another process of the same run
        logger = RunTensorBoardLogger(tmp_path, name="", version="tensorboard")
        for step in (first, first + 1):
            logger.log_metrics({"train/loss": float(step)}, step)
            logger.finalize("success")
    assert sorted(scalars(tmp_path / "tensorboard")["train/loss"]) == [(step, float(step)) for step in (1, 2, 3, 4)]


def test_without_tracking_the_weights_are_the_same_bit_for_bit(root, trained, tmp_path):
    model, run, kept = trained
    result = train_tokenizer(config_of(root, tmp_path, tracking="none"))
    try:
        assert result.model == model  # the option is no part of the name
        assert weights(root, model) == kept
        assert losses(tmp_path / model) == losses(run)
        assert not (tmp_path / model / "tensorboard").exists()
    finally:
        Store.open(root).remove("models", model)


def test_a_missing_package_is_named_with_its_extra_before_anything_starts(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in ("mlflow", "wandb"):
        with refusal(UserError, f"tracking={name}", action=f"pip install 'emeg[{name}]'"):
            check_tracker(name)


@pytest.mark.parametrize("package", ["mlflow", "wandb", "tensorboard"])
def test_choosing_no_tracker_imports_none(package):
    code = (
        "import sys; from emeg.training.tracking import loggers;"
        f"print(any(name.split('.')[0] == {package!r} for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_mlflow_has_the_metrics_and_a_resumed_run_continues_them(root, tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="needs the extra emeg[mlflow], whose versions exclude others of this project")
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = config_of(root, tmp_path, tracking="mlflow")
    run = RunContext(tmp_path / "run", 0, 1)
    for step in (1, 2):  # the second logger is that of a resumed run
        make_logger(config, run).log_metrics({"train/loss": 1.0 / step, "validation/pcc/x/5": 0.5}, step=step)
    client = MlflowClient(f"sqlite:///{tmp_path / 'run' / 'mlflow.db'}")
    (found,) = client.search_runs([client.get_experiment_by_name("emeg").experiment_id])
    history = client.get_metric_history(found.info.run_id, "train/loss")
    assert [(entry.step, entry.value) for entry in history] == [(1, 1.0), (2, 0.5)]
    assert found.data.metrics["validation/pcc/x/5"] == 0.5


def test_wandb_keeps_the_metrics_offline_and_leaves_standard_output_alone(root, tmp_path):
    pytest.importorskip("wandb", reason="needs the extra emeg[wandb]")
    values = config_of(root, tmp_path, tracking="wandb", probe_every=0).model_dump_json()
    code = (
        "import sys, pathlib\nfrom emeg.training import TrainTokenizerConfig\n"
        "from emeg.training.loop.rank import RunContext\nfrom emeg.training.tracking.loggers import make_logger\n"
        f"config = TrainTokenizerConfig.model_validate_json({values!r})\n"
        f"logger = make_logger(config, RunContext(pathlib.Path({str(tmp_path / 'run')!r}), 0, 1))\n"
        "logger.log_metrics({'train/loss': 0.125}, step=3)\nprint('@progress 1')\nlogger.experiment.finish()\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    environment |= {"WANDB_API_KEY": "a" * 40, "HTTPS_PROXY": "http://127.0.0.1:9"}  # a connection would fail
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "@progress 1\n"
    (file,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    assert re.search(rb"train/loss.{0,40}0\.125", file.read_bytes(), re.DOTALL)
    written = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not any(b"a" * 40 in path.read_bytes() for path in written)
