"""All entries of the registry: lookup, shared subjects, and datasets excluded from pretraining."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from typing import NamedTuple

from emeg.errors import UserError
from emeg.registry.entry import LEAKING, Entry

logger = logging.getLogger(__name__)


_DOI_VERSION = re.compile(r"[./]v\d+(\.\d+)*$")
_DOI_PREFIX = re.compile(r"^(?:https?://(?:dx\.)?doi\.org/|doi:)\s*", re.IGNORECASE)


def plain_doi(text: str) -> str:
    """Return a DOI without prefix and version, in small letters."""
    return _DOI_VERSION.sub("", _DOI_PREFIX.sub("", text.strip()).lower())


class Match(NamedTuple):
    """Entry of a dataset, None where the registry has none, and what it was found by, for people."""

    entry: Entry | None
    by: str


class Registry:
    """Entries by id; `Registry.load` reads those shipped with emeg.

    Raises
    ------
    UserError
        Two entries have the same id, or an entry that shares subjects with a task lacks ``never_pretrain``.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries: dict[str, Entry] = {}
        for entry in entries:
            if entry.id in self._entries:
                raise UserError(f"dataset registry: two entries have the id {entry.id}; remove one")
            self._entries[entry.id] = entry
        self._links = self._linked(LEAKING)
        self._suspected = self._linked(frozenset({"suspected"}))
        self._refuse_leaks()

    @classmethod
    def load(cls) -> "Registry":
        """Read ``recipes/datasets/*.yaml`` of the package, once per process."""
        return _load()

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries[name] for name in sorted(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, name: str) -> Entry | None:
        """Return the entry of a dataset, or `None` if the registry has none."""
        return self._entries.get(name.lower())

    def identify(self, name: str, *, doi: str = "", title: str = "", location: str = "") -> Match:
        """Find the entry of a dataset by what it says of itself and where it is; by its name where that says nothing.

        A name is often that of a folder. It decides only if neither the DOI nor the location is that of an entry, and
        not against a DOI of another dataset.

        Parameters
        ----------
        name : str
            Name of the dataset in a store.
        doi, title : str
            ``DatasetDOI`` and ``Name`` of its description; empty where it states none.
        location : str
            Address from which it is read.
        """
        stated = plain_doi(doi)
        by_doi = [entry for entry in self if stated and entry.doi and plain_doi(entry.doi) == stated]
        if len(by_doi) == 1:
            return Match(by_doi[0], "found by its DatasetDOI")
        place = location.rstrip("/")
        for entry in self:
            uri = entry.source.uri.rstrip("/")
            if uri.startswith("s3://") and (place == uri or place.startswith(f"{uri}/")):
                return Match(entry, "found by its location")
        named = self.find(name)
        if stated:
            if named is not None and named.doi and _accession(named.doi) and _accession(stated):
                return Match(None, f"{named.id} has the name of this dataset and another DOI, so it is not applied")
        else:
            alike = [entry for entry in self if title and _folded(entry.title) == _folded(title)]
            if len(alike) == 1:
                return Match(alike[0], "found by its Name")
        if named is None:
            return Match(None, "")
        return Match(named, "found by the dataset's name alone; if this is another dataset, give it another --dataset")

    def get(self, name: str) -> Entry:
        """Return the entry of a dataset.

        Raises
        ------
        UserError
            The registry has no such entry.
        """
        found = self.find(name)
        if found is None:
            near = [known for known in sorted(self._entries) if name.lower()[:4] in known] or sorted(self._entries)
            raise UserError(
                f"dataset registry: no entry {name!r}; choose from {', '.join(near[:8])}, … (`emeg datasets` lists all)"
            )
        return found

    def sharing_with(self, name: str) -> frozenset[str]:
        """Return the datasets that share subjects with `name`, transitively, itself included; without suspicions."""
        family, fresh = {name}, {name}
        while fresh:
            fresh = {other for one in fresh for other in self._links.get(one, ())} - family
            family |= fresh
        return frozenset(family)

    def suspected(self, name: str) -> frozenset[str]:
        """Return the datasets that are only suspected to share subjects with `name`."""
        return frozenset(self._suspected.get(name, ())) - self.sharing_with(name)

    def never_pretrain(self, name: str) -> str:
        """Return why a dataset must not be used in pretraining; empty if it may."""
        for other in sorted(self.sharing_with(name), key=lambda one: (one != name, one)):
            entry = self._entries.get(other)
            if entry is None or not entry.never_pretrain:
                continue
            kind = "is a task" if "task" in entry.roles else "is kept from pretraining"
            return f"{name} {kind}" if other == name else f"{name} has people of {other}, which {kind}"
        return ""

    def check_pretraining(self, names: Iterable[str], *, held_out_devices: bool = True) -> None:
        """Raise an error if a dataset must not be used in pretraining: tasks, their subjects, unseen devices.

        Raises
        ------
        UserError
            A dataset must not be used; the message lists all with the reasons.
        """
        faults = []
        for name in sorted(set(names)):
            reason = self.never_pretrain(name) or (self.unseen(name) if held_out_devices else "")
            if reason:
                faults.append(reason)
        if faults:
            raise UserError(f"not to be pretrained on: {'; '.join(faults)}; choose other datasets")

    def unseen(self, name: str) -> str:
        """Return why the device of a dataset must stay unseen in pretraining; empty if it may be used."""
        entry = self._entries.get(name)
        if entry is None:
            return ""
        if entry.unseen_device:
            return f"{name} is the dataset of an unseen device"
        own = {_device(device.vendor, device.model) for device in (entry.device, *entry.other_devices)}
        for other in self:
            if other.unseen_device and _device(other.device.vendor, other.device.model) in own:
                return f"{name} is recorded with the device of {other.id}, which is kept unseen"
        return ""

    def _linked(self, kinds: frozenset[str]) -> Mapping[str, set[str]]:
        links: dict[str, set[str]] = {}
        for entry in self._entries.values():
            for shared in entry.same_subjects_as:
                if shared.kind in kinds:
                    links.setdefault(entry.id, set()).add(shared.id)
                    links.setdefault(shared.id, set()).add(entry.id)
        return links

    def _refuse_leaks(self) -> None:
        for entry in self._entries.values():
            reason = self.never_pretrain(entry.id)
            if reason and not entry.never_pretrain:
                raise UserError(f"dataset registry: {reason}; set never_pretrain: true in {entry.id}")


def _accession(doi: str) -> bool:
    """Return whether a DOI is one of those that archives give to datasets, and not that of an article."""
    return plain_doi(doi).startswith(("10.18112/", "10.82901/", "10.13026/", "10.5281/", "10.6084/"))


def _folded(title: str) -> str:
    return " ".join(title.casefold().split())


def _device(vendor: str, model: str) -> str:
    """Return a normalised spelling of a device: ``SynAmps 2`` and ``SynAmps2`` are the same."""
    return "".join(character for character in f"{vendor}{model}".lower() if character.isalnum())


@cache
def _load() -> Registry:
    shelf = resources.files("emeg") / "recipes" / "datasets"
    entries = []
    for file in sorted(shelf.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            entry = Entry.from_yaml(file.read_text(encoding="utf-8"), source=file.name)
            if f"{entry.id}.yaml" != file.name:
                raise UserError(f"dataset registry: {file.name} holds {entry.id}; rename the file to {entry.id}.yaml")
            entries.append(entry)
    return Registry(entries)
