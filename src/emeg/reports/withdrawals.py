"""Remove a page that was drawn while a subject of its evaluation was withdrawn.

`emeg withdraw` notes the subject, then looks for products. A page is published first, then looks for the note.
"""

from collections.abc import Collection, Sequence

from emeg.errors import UserError
from emeg.evaluation.protocol.grid.withdrawals import withdrawn_subjects
from emeg.store import Store


def stop_if_outdated(store: Store, report: str, evaluations: Sequence[str], subjects: Collection[str] = ()) -> None:
    """Remove a page if one of its evaluations was removed, or one of its subjects withdrawn, while it was drawn.

    Parameters
    ----------
    store : Store
    report : str
        Name of the page below ``reports/``.
    evaluations : sequence of str
        Evaluations that it shows.
    subjects : collection of str
        Global names of their subjects, as far as the page has rows of them.

    Raises
    ------
    UserError
        The page was removed; the message names the evaluation and the next action.
    """
    gone = [name for name in evaluations if not store.has("evaluations", name)]
    withdrawn = sorted(withdrawn_subjects(store) & set(subjects))
    if not gone and not withdrawn:
        return
    store.remove("reports", report)
    reason = f"{', '.join(withdrawn)} withdrawn from the store" if withdrawn else "removed from the store"
    raise UserError(
        f"evaluation {', '.join(gone or evaluations)}: {reason} while its page was drawn, so that the page was removed;"
        " run `emeg evaluate` again, then draw the page of the new evaluation"
    )
