"""Write the codes of a corpus."""

from prefect import flow

from emeg import training
from emeg.flows.engine import ArtifactProgress, publish, show, verb_flow, verb_task
from emeg.training import TokenizeConfig, TokenizeResult


@verb_task("tokenize")
def run_tokenize(config: TokenizeConfig) -> TokenizeResult:
    """Call the library with a progress artifact."""
    with ArtifactProgress("tokenize") as progress:
        return training.tokenize(config, progress=progress)


@verb_flow
@flow(name="tokenize")
def tokenize_flow(config: TokenizeConfig) -> TokenizeResult:
    """Write the codes of a corpus."""
    result = run_tokenize(config)
    show("tokenize", config, result)
    if not result.done_before:
        publish("tokens", config.root, result.tokens)
    return result
