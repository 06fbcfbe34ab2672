"""What the dataset registry says of the datasets in a store: whom no model trains on, and who is one person."""

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from emeg.registry import Registry
from emeg.store import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Registered:
    """Rules for the datasets of one corpus; empty where the registry knows none of them."""

    held_out: dict[str, str] = field(default_factory=dict)
    """Dataset -> why nobody of it is trained on."""
    same_people: tuple[tuple[str, str], ...] = ()
    """Pairs of datasets that share people under the same labels."""

    def __bool__(self) -> bool:
        return bool(self.held_out or self.same_people)

    def held_out_people(self, people: Iterable[str]) -> set[str]:
        """Choose, of global names dataset/subject, those whom no model trains on."""
        return {name for name in people if name.split("/", 1)[0] in self.held_out}


def registered(store: Store, datasets: Collection[str]) -> Registered:
    """Find the rules: by the entry that ingest noted with the dataset, else by the dataset's name.

    Datasets of a task, datasets that share people with one, the datasets of unseen devices, and those recorded with the
    same devices, are held out whole, whatever folder they came from.
    """
    registry = Registry.load()
    entries = {dataset: _entry(store, dataset, registry) for dataset in sorted(datasets)}
    held_out = {}
    for dataset, entry in entries.items():
        reason = (registry.never_pretrain(entry) or registry.unseen(entry)) if entry else ""
        if reason:
            held_out[dataset] = reason
    pairs = [
        (one, other)
        for one, entry in entries.items()
        for other, second in entries.items()
        if one < other and entry and second and second in registry.people_of(entry)
    ]
    for one, other in pairs:
        logger.info("%s and %s share people: equal labels are split as one", one, other)
    for dataset, entry in entries.items():
        doubted = sorted(other for other, second in entries.items() if second in registry.suspected(entry) and entry)
        if doubted:
            logger.warning("%s may share people with %s, which nobody has checked", dataset, ", ".join(doubted))
    return Registered(held_out, tuple(pairs))


def _entry(store: Store, dataset: str, registry: Registry) -> str:
    noted = ("catalog", "datasets", f"{dataset}.json")
    name = str(store.location(*noted).read_json().get("entry", "")) if store.exists(*noted) else ""
    found = registry.find(name or dataset)
    return found.id if found is not None else ""
