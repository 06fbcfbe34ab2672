"""Task runs on a Dask cluster, by Prefect's runner for Dask."""

from collections.abc import Iterator, Mapping
from typing import ParamSpec, TypeVar

from prefect import Flow
from prefect.futures import PrefectFuture, as_completed

from emeg.errors import TransientError, UserError

P = ParamSpec("P")
R = TypeVar("R")
K = TypeVar("K")


def on_dask(flow: Flow[P, R], address: str) -> Flow[P, R]:
    """Return the flow with its submitted tasks running on the Dask cluster at `address`.

    Raises
    ------
    UserError
        prefect-dask is not installed.
    """
    try:
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise UserError("dask: prefect-dask is not installed; run pip install 'emeg[dask]'") from error
    return flow.with_options(task_runner=DaskTaskRunner(address=address))


def as_they_end(runs: Mapping[PrefectFuture[R], K]) -> Iterator[tuple[K, R | str]]:
    """Yield each submitted key with its result, as they end; a text instead of a result means that it may be retried.

    Raises
    ------
    UserError
        A task run ended with it; any other error of a task run is raised as well.
    """
    from distributed import KilledWorker

    for run in as_completed(list(runs)):
        try:
            yield runs[run], run.result()
        except TransientError as error:
            yield runs[run], str(error)
        except KilledWorker as error:
            yield runs[run], f"lost with its Dask workers, one after another ({' '.join(str(error).split())})"
