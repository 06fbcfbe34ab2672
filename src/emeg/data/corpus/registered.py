"""Rules of the dataset registry for a corpus: subjects that no model trains on, and datasets that share subjects."""

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from emeg.data.corpus.split import join_groups
from emeg.data.corpus.writing import subject_name
from emeg.registry import Registry
from emeg.store import CatalogRow, Store
from emeg.store.copies import read_copies

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Registered:
    """Rules for the datasets of one corpus; empty if the registry knows none of them."""

    held_out: dict[str, str] = field(default_factory=dict)
    """Reason, by dataset, why no subject of it is trained on."""
    same_people: tuple[tuple[str, str], ...] = ()
    """Pairs of datasets that share subjects under the same labels."""

    def __bool__(self) -> bool:
        return bool(self.held_out or self.same_people)

    def held_out_subjects(self, subjects: Iterable[str]) -> set[str]:
        """Return those of the global names ``dataset/subject`` that no model may train on."""
        return {name for name in subjects if name.split("/", 1)[0] in self.held_out}


def registered(store: Store, datasets: Collection[str]) -> Registered:
    """Return the registry's rules for some datasets, found by the entry that ingest recorded or by name.

    Datasets of a task, datasets that share subjects with one, datasets of unseen devices and those recorded with the
    same devices are held out as a whole, whatever folder they came from.
    """
    registry = Registry.load()
    entries = {dataset: registry_id(store, dataset) for dataset in sorted(datasets)}
    held_out = {}
    for dataset, entry in entries.items():
        reason = (registry.never_pretrain(entry) or registry.unseen(entry)) if entry else ""
        if reason:
            held_out[dataset] = reason
    pairs = [
        (one, other)
        for one, entry in entries.items()
        for other, second in entries.items()
        if one < other and entry and second and second in registry.sharing_with(entry)
    ]
    for one, other in pairs:
        logger.info("%s and %s share subjects: equal labels are split together", one, other)
    for dataset, entry in entries.items():
        doubted = sorted(other for other, second in entries.items() if second in registry.suspected(entry) and entry)
        if doubted:
            logger.warning(
                "%s may share subjects with %s; the registry marks this as unchecked", dataset, ", ".join(doubted)
            )
    return Registered(held_out, tuple(pairs))


def copied_subjects(store: Store, rows: Sequence[CatalogRow]) -> list[tuple[str, str]]:
    """Return the pairs of subjects whose recordings hold the same data according to `emeg copies`."""
    people = {row.recording: subject_name(row) for row in rows}
    pairs = {
        (people[copy.first], people[copy.second])
        for copy in read_copies(store)
        if copy.first in people and copy.second in people
    }
    return sorted(pair for pair in pairs if pair[0] != pair[1])


def group_name(name: str, same_people: Sequence[tuple[str, str]]) -> str:
    """Return the name of a subject in the first, by name, of all datasets that share subjects, transitively."""
    dataset, subject = name.split("/", 1)
    family = {dataset}
    while True:
        linked = {d for pair in same_people if family & set(pair) for d in pair} | family
        if linked == family:
            return f"{min(family)}/{subject}"
        family = linked


def person_groups(store: Store, rows: Sequence[CatalogRow]) -> dict[str, str]:
    """Return a key for each global name ``dataset/subject``; names of one person, as far as known, share it.

    Known are datasets that share subjects according to the registry, and copies that `emeg copies` found.
    """
    same_people = registered(store, {row.dataset for row in rows}).same_people
    names = sorted({subject_name(row) for row in rows})
    groups = {name: group_name(name, same_people) for name in names}
    return join_groups(groups, copied_subjects(store, rows))


def registry_id(store: Store, dataset: str) -> str:
    """Return the id of the registry entry of a dataset, as ingest recorded it or by name; empty if it has none."""
    noted = ("catalog", "datasets", f"{dataset}.json")
    registry = Registry.load()
    known = store.location(*noted).read_json() if store.exists(*noted) else {}
    found = registry.find(str(known.get("entry", "")))
    if found is None:  # the registry may have its entry only since
        found = registry.identify(dataset, doi=str(known.get("doi", "")), title=str(known.get("title", ""))).entry
    return found.id if found is not None else ""
