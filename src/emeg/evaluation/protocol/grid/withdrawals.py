"""Stop an evaluation over tasks when a subject of its tasks or of its network is withdrawn while it runs.

`emeg withdraw` notes the subject first, then looks for products. An evaluation writes first, then looks for the note.
Whichever comes first, nothing about the subject is left.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from emeg.errors import EmegError, UserError
from emeg.ingest.dataset_records import read_withdrawn
from emeg.store import Store

ATTEMPTS = 20
"""How often a folder is removed into which other processes may still write."""
PAUSE_S = 0.1
"""Time between two attempts, s."""


def withdrawn_subjects(store: Store) -> frozenset[str]:
    """Return the global names ``dataset/subject`` of all subjects who were withdrawn from a store."""
    return frozenset(f"{one.dataset}/{one.subject}" for one in read_withdrawn(store))


def stop_if_withdrawn(
    store: Store,
    evaluation: str,
    recordings_of: Mapping[str, Sequence[str]],
    embeddings_of: Callable[[set[str]], Sequence[str]],
) -> None:
    """Remove an evaluation, its work in progress and what was made of a withdrawn subject, if there is one.

    Parameters
    ----------
    store : Store
    evaluation : str
        Name of the evaluation.
    recordings_of : mapping
        Recordings of every subject of its tasks and of its network, by global name.
    embeddings_of : callable
        Returns the names of the embeddings of some recordings.

    Raises
    ------
    UserError
        A subject was withdrawn; the message names the subject and the next action.
    """
    gone = sorted(withdrawn_subjects(store) & set(recordings_of))
    if not gone:
        return
    recordings = {name for subject in gone for name in recordings_of[subject]}
    _remove(store, "evaluations", evaluation)
    _remove(store, "runs", evaluation)
    for name in embeddings_of(recordings):
        _remove(store, "embeddings", name)
    for name in sorted(recordings):
        _remove(store, "catalog", "fingerprints", f"{name}.npy")
    raise UserError(
        f"evaluation {evaluation}: {', '.join(gone)} withdrawn from the store while the evaluation ran, so that"
        " all it had computed was removed; run the same command again to evaluate without"
        f" {'this subject' if len(gone) == 1 else 'these subjects'}"
    )


def _remove(store: Store, *parts: str) -> None:
    """Remove a file or folder that other processes may remove at the same time, or may still write into."""
    for attempt in range(ATTEMPTS):
        try:
            store.remove(*parts)
        except OSError:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(PAUSE_S)
        else:
            return


@contextmanager
def explained_by_withdrawal(store: Store, evaluation: str, check: Callable[[], None]) -> Iterator[None]:
    """Call `check` when the block fails on a file or product, which a withdrawal may have removed.

    Raises
    ------
    UserError
        The work in progress of the evaluation was removed while it ran.
    """
    try:
        yield
    except (OSError, EmegError) as error:
        check()
        if isinstance(error, FileNotFoundError) and not store.exists("runs", evaluation, "made_from.json"):
            raise UserError(
                f"evaluation {evaluation}: its folder in runs/ was removed while the evaluation ran, as `emeg withdraw`"
                " and `emeg tidy` do; run the same command again"
            ) from error
        raise


@contextmanager
def explained_while_planning(store: Store) -> Iterator[None]:
    """Name the subjects who were withdrawn during the block if it fails on a file or product.

    Raises
    ------
    UserError
        The block failed, and a subject was withdrawn since it began.
    """
    before = withdrawn_subjects(store)
    try:
        yield
    except (OSError, EmegError) as error:
        gone = sorted(withdrawn_subjects(store) - before)
        if not gone:
            raise
        raise UserError(
            f"{store.root}: {', '.join(gone)} withdrawn from the store while the evaluation was planned; run the same"
            " command again to evaluate without"
            f" {'this subject' if len(gone) == 1 else 'these subjects'}"
        ) from error
