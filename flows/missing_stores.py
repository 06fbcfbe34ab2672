"""Regular work on a store that does not exist: nothing to do before the first ingest, an error afterwards."""

import logging
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.client.schemas.objects import State
from prefect.client.schemas.sorting import FlowRunSort
from prefect.context import FlowRunContext
from prefect.states import Completed

from emeg.errors import MissingStoreError, UserError
from emeg.store import Store

logger = logging.getLogger(__name__)

EARLIER_RUNS = 20
"""Completed runs of a deployment that are looked at."""


def skip_without_store(root: str) -> State[Any] | None:
    """Return the state ``Skipped``, of type Completed, for a run that finds no store; `None` if there is a store.

    Raises
    ------
    UserError
        An earlier run of the same deployment found the store. It is lost, or its disk is not mounted.
    """
    try:
        Store.open(root)
    except MissingStoreError as error:
        context = FlowRunContext.get()
        deployment = context.flow_run.deployment_id if context and context.flow_run else None
        if deployment is not None and was_found_before(deployment, root):
            raise UserError(
                f"{root}: an earlier run of this deployment found a store here, and now there is none;"
                " mount its disk, or restore it from a backup"
            ) from error
        message = f"{root}: there is no store yet, so there is nothing to do; the first ingest creates it"
        logger.info("%s", message)
        return Completed(name="Skipped", message=message)
    return None


def was_found_before(deployment: UUID, root: str) -> bool:
    """Return whether a run of the deployment has completed on the store."""
    completed = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
        state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Completed"])),
    )
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=completed, sort=FlowRunSort.END_TIME_DESC, limit=EARLIER_RUNS)
    return any(root in (run.parameters.get("root"), run.parameters.get("config", {}).get("root")) for run in runs)
