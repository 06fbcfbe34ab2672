"""Train a BrainTokenizer, in processes of its own."""

from prefect import flow

from emeg import training
from emeg.flows.engine import ArtifactProgress, show, verb_task
from emeg.training import TrainResult, TrainTokenizerConfig


@verb_task("train-tokenizer")
def run_train_tokenizer(config: TrainTokenizerConfig) -> TrainResult:
    """Call the library with a progress artifact."""
    with ArtifactProgress("train-tokenizer") as progress:
        return training.train_tokenizer(config, progress=progress)


@flow(name="train-tokenizer")
def train_tokenizer_flow(config: TrainTokenizerConfig) -> TrainResult:
    """Train a BrainTokenizer, in processes of its own."""
    result = run_train_tokenizer(config)
    show("train-tokenizer", config, result)
    return result
