"""Share work between processes, on one machine or several, by claims on names."""

import time
from collections.abc import Callable, Sequence

from emeg.store import Store
from emeg.store.claims import claimed

WAIT_S = 0.5
"""Time between two looks at what other processes work on, s."""


def share_work(store: Store, names: Sequence[str], is_done: Callable[[str], bool], make: Callable[[str], None]) -> None:
    """Make everything that is not done, leaving to other processes what they have claimed; return when all is done.

    The claim of a process that dies ends with it, so that its work is taken over.

    Parameters
    ----------
    store : Store
    names : sequence of str
        Names to work on, in order.
    is_done : callable
        Returns whether a name is finished.
    make : callable
        Makes one name.
    """
    pending = [name for name in names if not is_done(name)]
    while pending:
        claimed_elsewhere = []
        for name in pending:
            if is_done(name):
                continue
            with claimed(store, name) as ours:
                if not ours:
                    claimed_elsewhere.append(name)
                elif not is_done(name):
                    make(name)
        pending = [name for name in claimed_elsewhere if not is_done(name)]
        if pending:
            time.sleep(WAIT_S)
