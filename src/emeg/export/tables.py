"""Tables about subjects, sessions and recordings of an export: participants.tsv, sessions.tsv and scans.tsv."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emeg.bids_files import write_json, write_table
from emeg.export.naming import NamedRecording
from emeg.hashing import hash_json
from emeg.store import KEYS, Store, read_facts
from emeg.store.catalog.facts import FactKind, about_of

Facts = dict[tuple[str, ...], dict[str, Any]]
"""Columns of a table by its key."""

PARTICIPANT_COLUMNS: dict[str, dict[str, Any]] = {
    "dataset": {"Description": "Dataset that the subject is from."},
    "source_label": {"Description": "Pseudonym in the store that this was exported from."},
}


class ExportedFacts:
    """The tables of facts that belong to the recordings of an export.

    Parameters
    ----------
    store : Store
    named : sequence of NamedRecording
        The recordings of the export.
    """

    def __init__(self, store: Store, named: Sequence[NamedRecording]) -> None:
        self.named = named
        datasets = {one.row.dataset for one in named}
        tables = {kind: read_facts(store, kind, datasets) for kind in KEYS}
        self.about = {kind: about_of(table) for kind, table in tables.items()}
        self.rows: dict[FactKind, Facts] = {}
        for kind, keys in KEYS.items():
            wanted = {tuple(getattr(one.row, key) for key in keys) for one in named}
            facts: Facts = {}
            for row in tables[kind].to_pylist():
                key = tuple(row.pop(key) for key in keys)
                if key in wanted:
                    facts[key] = row
            self.rows[kind] = facts

    @property
    def content(self) -> dict[str, str]:
        """Hash of the tables, a part of the export's name; empty where there are no facts."""
        rows = {kind: sorted([list(key), row] for key, row in self.rows[kind].items()) for kind in KEYS}
        return {"facts": hash_json([rows, self.about])} if any(rows.values()) else {}

    def write(self, folder: Path) -> None:
        """Write the tables and their JSON files into the folder of the export."""
        write_table(folder / "participants.tsv", self._participants())
        write_json(folder / "participants.json", {**PARTICIPANT_COLUMNS, **self._described("subjects")})
        sessions: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        scans: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for one in self.named:
            if (facts := self._of("sessions", one)) is not None and one.session:
                sessions[one.subject][one.session] = {"session_id": f"ses-{one.session}", **facts}
            if (facts := self._of("scans", one)) is not None:
                stem = f"sub-{one.subject}" + (f"/ses-{one.session}" if one.session else "")
                file = f"{one.datatype}/{one.name()}_{one.datatype}.{one.extension}"
                scans[stem].append({"filename": file, **facts})
        for subject, rows in sessions.items():
            write_table(folder / f"sub-{subject}" / f"sub-{subject}_sessions.tsv", list(rows.values()))
        for stem, rows_of in scans.items():
            write_table(folder / stem / f"{stem.replace('/', '_')}_scans.tsv", rows_of)
        for kind, written in (("sessions", sessions), ("scans", scans)):
            if written and (described := self._described(kind)):
                write_json(folder / f"{kind}.json", described)

    def _participants(self) -> list[dict[str, Any]]:
        """Return the subjects: label in the export, dataset, label there, and the columns of participants.tsv."""
        subjects = {one.subject: (one.row.dataset, one.row.subject) for one in self.named}
        columns = dict.fromkeys(name for facts in self.rows["subjects"].values() for name in facts)
        return [
            {
                "participant_id": f"sub-{label}",
                "dataset": key[0],
                "source_label": key[1],
                **{
                    name: self.rows["subjects"].get(key, {}).get(name)
                    for name in columns
                    if name not in PARTICIPANT_COLUMNS
                },
            }
            for label, key in sorted(subjects.items())
        ]

    def _of(self, kind: FactKind, one: NamedRecording) -> dict[str, Any] | None:
        return self.rows[kind].get(tuple(getattr(one.row, key) for key in KEYS[kind]))

    def _described(self, kind: Any) -> Mapping[str, Any]:  # noqa: ANN401 - a loop over literals
        return {name: about for name, about in self.about[kind].items() if name not in PARTICIPANT_COLUMNS}
