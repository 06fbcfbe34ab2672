"""Show a scheduler's training before it starts, follow it to its end, and cancel it with its flow run."""

import logging
import shlex
from pathlib import Path

from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext

from emeg import training
from emeg.errors import UserError
from emeg.flows.engine import ArtifactProgress, parameter_table, verb_task
from emeg.training import PlanConfig, PretrainConfig, TrainResult, TrainTokenizerConfig
from emeg.training.follow import follow
from emeg.training.loop.rank import find_run

logger = logging.getLogger(__name__)

Training = PretrainConfig | TrainTokenizerConfig


def show_start(verb: str, config: Training) -> None:
    """Publish a page with the resolved parameters and the forecast of the training, before it starts."""
    create_markdown_artifact(
        key=f"{verb}-start",
        markdown=f"# emeg {verb}\n\n{_forecast(config)}\n\n{parameter_table(config)}",
        description="Parameters with the recipe filled in, and what the training will read",
    )


def _forecast(config: Training) -> str:
    ranks = config.processes * config.nodes
    request = PlanConfig(root=config.root, recipe=config.recipe, ranks=ranks, nodes=config.nodes)
    try:
        plan = training.plan_training(request)
    except UserError as error:
        return f"No forecast: {error}"
    rows = "\n".join(f"| {name} | {value} |" for name, value in plan.model_dump(mode="json").items())
    return f"Forecast of the recipe for {ranks} ranks:\n\n| per epoch | |\n| --- | --- |\n{rows}"


@verb_task("follow")
def follow_job(verb: str, config: Training, submitted: TrainResult) -> TrainResult:
    """Follow a submitted job until its model exists.

    Raises
    ------
    UserError
        Nothing was submitted: the configuration only asks for the script.
    """
    if not submitted.job.partition(" job ")[2] and not submitted.job.startswith("trainjob "):
        raise UserError(
            f"{verb}: {submitted.job} was written but not submitted, so no model is trained;"
            f" set {config.launcher}.submit to true"
        )
    folder = find_run(config, submitted.model, {}).folder
    create_markdown_artifact(
        key=f"{verb}-job",
        markdown=(
            f"# {submitted.job}\n\n* model `{submitted.model}`\n* work in progress, checkpoints and log: `{folder}`\n"
            f"* curves: {_curves(config, folder)}\n"
        ),
        description="Where the job works",
    )
    with ArtifactProgress(verb) as progress:
        return follow(verb, config, submitted, progress=progress, is_cancelled=is_cancelled)


def _curves(config: Training, folder: Path) -> str:
    """Return where the curves of a run are, in Markdown."""
    return {
        "tensorboard": f"`tensorboard --logdir {shlex.quote(str(folder / 'tensorboard'))}`",
        "mlflow": f"MLflow's server, or `{folder / 'mlflow.db'}`",
        "wandb": f"Weights & Biases, or `wandb sync {shlex.quote(str(folder / 'wandb'))}`",
        "none": f"`{folder / 'metrics.csv'}`",
    }[config.tracking]


def is_cancelled() -> bool:
    """Return whether somebody has cancelled the flow run of this task. A worker that stops does not cancel it."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return False
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(context.flow_run.id).state
    return state is not None and state.type in {StateType.CANCELLING, StateType.CANCELLED}
