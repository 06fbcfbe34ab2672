"""Splits of corpora that were removed with a withdrawn subject.

Models of such a corpus stay in the store. To leave their training subjects out of a test, the split of the other
subjects is kept in ``catalog/splits/<corpus>.json``, without anybody who was withdrawn.
"""

from collections.abc import Collection

from emeg.data.corpus.corpus import Corpus
from emeg.store import Store

FOLDER = ("catalog", "splits")


def split_of(store: Store, corpus: str) -> dict[str, str] | None:
    """Return the split of every subject of a corpus by global name; None if the store knows nothing of the corpus.

    Subjects who were withdrawn are missing if the corpus was removed with one of them.
    """
    if store.has("corpora", corpus):
        return Corpus.open(store, corpus).subjects
    if store.exists(*FOLDER, f"{corpus}.json"):
        return dict(store.read_json(*FOLDER, f"{corpus}.json")["subjects"])
    return None


def removed_corpora_of(store: Store, subject: str) -> set[str]:
    """Return the names of the removed corpora whose kept split has a subject, by global name."""
    return {name for name, split in _kept(store).items() if subject in split}


def keep_splits(store: Store, corpora: Collection[str], *, without: str) -> None:
    """Write the splits of corpora that are about to be removed, and remove one subject from all kept splits.

    Parameters
    ----------
    store : Store
    corpora : collection of str
        Names of corpora that are in the store.
    without : str
        Global name of the subject who is withdrawn.
    """
    splits = _kept(store) | {name: split_of(store, name) or {} for name in corpora}
    for corpus, split in splits.items():
        left = {name: own for name, own in split.items() if name != without}
        if left != split or corpus in corpora:
            store.write_json({"subjects": left}, *FOLDER, f"{corpus}.json")


def _kept(store: Store) -> dict[str, dict[str, str]]:
    files = [location.name for location in store.children(*FOLDER) if location.name.endswith(".json")]
    return {name.removesuffix(".json"): store.read_json(*FOLDER, name)["subjects"] for name in files}
