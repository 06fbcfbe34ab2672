"""Names of recordings in a BIDS dataset: unique, and made of the catalogue's public labels alone."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from emeg.hashing import hash_json
from emeg.store import CatalogRow

DESCRIPTION = "preproc"
"""Label of ``desc-`` in the names of files that hold processed data."""

INTRACRANIAL_SPACE = "MNI152NLin2009cAsym"
"""Coordinate system of intracranial electrodes; those of the MNI152 family differ by some millimetres."""

_NOT_LABEL = re.compile(r"[^A-Za-z0-9]+")
_SHORT = 6


@dataclass(frozen=True)
class NamedRecording:
    """A recording and its names in the dataset; empty entities are left out."""

    row: CatalogRow
    subject: str
    session: str
    task: str
    acquisition: str
    run: str

    @property
    def datatype(self) -> str:
        """Folder and suffix: EEG recorded together with MEG is in the MEG's file."""
        return self.row.modality if self.row.modality in {"eeg", "ieeg"} else "meg"

    @property
    def extension(self) -> str:
        """Extension of the data file, without the dot."""
        return "fif" if self.datatype == "meg" else "vhdr"

    @property
    def folder(self) -> str:
        """Folder below the dataset."""
        session = f"/ses-{self.session}" if self.session else ""
        return f"sub-{self.subject}{session}/{self.datatype}"

    def name(self, *, description: bool = True) -> str:
        """Name without suffix and extension; the label ``desc-`` marks processed data only."""
        label = DESCRIPTION if description else ""
        return _join(sub=self.subject, ses=self.session, task=self.task, acq=self.acquisition, run=self.run, desc=label)

    @property
    def space(self) -> str:
        """Name of the coordinate system: the same for all EEG, that of the device for MEG, of the implant for iEEG."""
        if self.datatype == "eeg":
            return _join(sub=self.subject, ses=self.session)
        if self.datatype == "ieeg":
            return f"{self.name(description=False)}_space-{INTRACRANIAL_SPACE}"
        return _join(sub=self.subject, ses=self.session, task=self.task, acq=self.acquisition)

    @property
    def electrodes(self) -> str:
        """Name of the table of electrodes, without suffix and extension."""
        return self.space if self.datatype == "ieeg" else self.name(description=False)

    @property
    def key(self) -> tuple[str, str]:
        """Part of the name that must be unique."""
        return self.folder, self.name()


def _join(**entities: str) -> str:
    return "_".join(f"{key}-{label}" for key, label in entities.items() if label)


def name_recordings(rows: Sequence[CatalogRow]) -> list[NamedRecording]:
    """Name every recording; names do not depend on the order of the rows.

    Labels lose what BIDS does not allow. With several datasets, the label of a subject begins with the dataset's name,
    since the same label there is another person. If names are equal, digits of a hash are appended.
    """
    subjects = _subjects(rows)
    named = [_named(row, subjects[row.dataset, row.subject]) for row in rows]
    counts = Counter(_folded(one) for one in named)
    return [
        replace(one, acquisition=one.acquisition + one.row.recording[:_SHORT]) if counts[_folded(one)] > 1 else one
        for one in named
    ]


def _folded(named: NamedRecording) -> tuple[str, str]:
    """Return the key as a file system that ignores case sees it."""
    folder, name = named.key
    return folder.lower(), name.lower()


def _subjects(rows: Sequence[CatalogRow]) -> dict[tuple[str, str], str]:
    """Label of each person, by dataset and subject."""
    subjects = sorted({(row.dataset, row.subject) for row in rows})
    several = len({dataset for dataset, _ in subjects}) > 1
    labels = {
        (dataset, subject): (_label(dataset) if several else "") + (_label(subject.removeprefix("sub-")) or "unnamed")
        for dataset, subject in subjects
    }
    counts = Counter(label.lower() for label in labels.values())
    return {
        person: label + hash_json(list(person))[:_SHORT] if counts[label.lower()] > 1 else label
        for person, label in labels.items()
    }


def _named(row: CatalogRow, subject: str) -> NamedRecording:
    run = row.run if row.run.isascii() and row.run.isdigit() else ""
    acquisition = _label(row.acquisition) + ("" if run else _label(row.run))
    return NamedRecording(row, subject, _label(row.session), _label(row.task) or "unknown", acquisition, run)


def _label(text: str) -> str:
    return _NOT_LABEL.sub("", text)
