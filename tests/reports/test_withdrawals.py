"""A page that is drawn while its evaluation or a subject is withdrawn."""

import pytest
from tests.messages import refusal
from tests.reports.grids import SUBJECTS, publish

from emeg.errors import UserError
from emeg.ingest.dataset_records import Withdrawn, note_withdrawn
from emeg.reports import ReportConfig, report, write_grid_page
from emeg.store import Store


@pytest.mark.parametrize("what", ["subject", "evaluation"])
def test_the_page_of_a_withdrawn_subject_is_removed(tmp_path, monkeypatch, what):
    store = Store.open(tmp_path / "store", create=True)
    publish(store, "e1", "aaaaaaaa11", 0.7, tasks=("t1",))
    dataset, subject = SUBJECTS[0].split("/")

    def drawn_meanwhile(*_: object) -> str:
        if what == "subject":
            note_withdrawn(store, [Withdrawn(dataset=dataset, subject=subject)])
        else:
            store.remove("evaluations", "e1")
        return "<html></html>"

    monkeypatch.setattr(write_grid_page, "render", drawn_meanwhile)
    with refusal(UserError, "e1", action="emeg evaluate"):
        report(ReportConfig(root=str(store.root)))
    assert store.names("reports") == []
    assert list(store.children("reports")) == []
