"""Train a tokenizer on a corpus, in separate processes."""

from prefect import flow

from emeg import training
from emeg.flows.engine import ArtifactProgress, publish, show, verb_flow, verb_task
from emeg.flows.following import follow_job, show_start
from emeg.training import TrainResult, TrainTokenizerConfig


@verb_task("train-tokenizer")
def run_train_tokenizer(config: TrainTokenizerConfig) -> TrainResult:
    """Call the library with a progress artifact."""
    with ArtifactProgress("train-tokenizer") as progress:
        return training.train_tokenizer(config, progress=progress)


@verb_flow
@flow(name="train-tokenizer")
def train_tokenizer_flow(config: TrainTokenizerConfig) -> TrainResult:
    """Train a tokenizer on a corpus, in separate processes."""
    show_start("train-tokenizer", config)
    result = run_train_tokenizer(config)
    if result.job:
        result = follow_job("train-tokenizer", config, result)
    show("train-tokenizer", config, result)
    if not result.done_before:
        publish("model", config.root, result.model, role="tokenizer", network=config.tokenizer)
    return result
