"""What is known of subjects, sessions and recordings is exported, and read again as it was."""

import csv
import json
import shutil
from pathlib import Path

import pyarrow as pa
from tests.export.conftest import Stored
from tests.messages import refusal

from emeg.errors import UserError
from emeg.export import ExportBidsConfig, export_bids
from emeg.store import Store, read_catalog, write_facts
from emeg.store.catalog.facts import with_about


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_facts_are_exported_and_are_part_of_the_exports_name(stored: Stored, tmp_path: Path):
    shutil.copytree(stored.root, tmp_path / "store")
    store = Store.open(tmp_path / "store")
    rows = {row.recording: row for row in read_catalog(store)}
    datasets = {row.dataset for row in rows.values()}
    plain = export_bids(ExportBidsConfig(root=str(store.root), out=str(tmp_path / "plain"))).export
    about = {"group": {"Levels": {"MDD": "depression"}}}
    for dataset in datasets:
        subjects = sorted({row.subject for row in rows.values() if row.dataset == dataset})
        columns = {"dataset": [dataset] * len(subjects), "subject": subjects, "group": ["MDD"] * len(subjects)}
        write_facts(store, "subjects", dataset, with_about(pa.table({**columns, "age": range(len(subjects))}), about))
    both = rows["c" * 16]
    key = {"dataset": [both.dataset], "subject": [both.subject]}
    write_facts(store, "sessions", both.dataset, pa.table({**key, "session": [both.session], "weeks": [6]}))
    write_facts(store, "scans", both.dataset, pa.table({**key, "source": [both.source], "drug": ["on"]}))
    out = tmp_path / "bids"
    found = export_bids(ExportBidsConfig(root=str(store.root), out=str(out)))
    assert found.export != plain
    people = table(out / "participants.tsv")
    assert {(row["group"], row["age"].isdigit()) for row in people} == {("MDD", True)}
    described = json.loads((out / "participants.json").read_text())
    assert described["group"] == about["group"]
    assert described["dataset"]["Description"]
    [sessions], [scans] = out.glob("sub-*/*_sessions.tsv"), out.glob("sub-*/ses-*/*_scans.tsv")
    assert table(sessions) == [{"session_id": f"ses-{both.session}", "weeks": "6"}]
    [scan] = table(scans)
    assert scan["drug"] == "on"
    assert (scans.parent / scan["filename"]).exists()
    assert export_bids(ExportBidsConfig(root=str(store.root), out=str(out))).done_before
    with refusal(UserError, found.export, action="another folder"):
        export_bids(ExportBidsConfig(root=str(stored.root), out=str(out)))
