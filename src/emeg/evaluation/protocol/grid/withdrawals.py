"""Stop an evaluation over tasks when one of its subjects is withdrawn from the store while it runs.

`emeg withdraw` notes the subject first, then looks for products. An evaluation writes first, then looks for the note.
Whichever comes first, nothing about the subject is left.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from emeg.errors import EmegError, UserError
from emeg.ingest.dataset_records import read_withdrawn
from emeg.store import Store


def stop_if_withdrawn(
    store: Store, evaluation: str, subjects: set[str], made_of: Callable[[set[str]], Sequence[str]]
) -> None:
    """Remove an evaluation and its work in progress if one of its subjects was withdrawn.

    Parameters
    ----------
    store : Store
    evaluation : str
        Name of the evaluation.
    subjects : set of str
        Global names of its subjects.
    made_of : callable
        Returns the names of the embeddings of some of the subjects.

    Raises
    ------
    UserError
        A subject was withdrawn; the message names the subject and the next action.
    """
    gone = subjects & {f"{one.dataset}/{one.subject}" for one in read_withdrawn(store)}
    if not gone:
        return
    products = [("evaluations", evaluation), ("runs", evaluation), *(("embeddings", name) for name in made_of(gone))]
    for kind, name in products:
        if store.exists(kind, name):
            store.remove(kind, name)
    raise UserError(
        f"evaluation {evaluation}: {', '.join(sorted(gone))} withdrawn from the store while the evaluation ran, so that"
        " all it had computed was removed; run the same command again to evaluate without"
        f" {'this subject' if len(gone) == 1 else 'these subjects'}"
    )


@contextmanager
def explained_by_withdrawal(check: Callable[[], None]) -> Iterator[None]:
    """Call `check` when the block fails on a file or product, which a withdrawal may have removed."""
    try:
        yield
    except (OSError, EmegError):
        check()
        raise
