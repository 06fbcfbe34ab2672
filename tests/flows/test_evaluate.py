"""The link beside a run leads to the page over HTTP where the pages are served."""

from pathlib import Path

import pytest

from emeg.flows.evaluate import REPORTS_URL, report_address
from emeg.reports import ReportResult


def page(path):
    return ReportResult(report="r1", evaluation="e1", done_before=False, path=path)


@pytest.mark.parametrize("url", ["http://127.0.0.1:4201", "http://127.0.0.1:4201/"])
def test_a_served_page_has_an_http_address(monkeypatch, url):
    monkeypatch.setenv(REPORTS_URL, url)
    assert report_address(page("/data/store/reports/r1/index.html")) == "http://127.0.0.1:4201/r1"
    assert report_address(page("s3://bucket/reports/r1/index.html")) == "http://127.0.0.1:4201/r1"


def test_without_a_server_the_file_is_named(monkeypatch):
    monkeypatch.delenv(REPORTS_URL, raising=False)
    assert report_address(page("store/r1.html")) == (Path.cwd() / "store/r1.html").as_uri()
    assert report_address(page("s3://bucket/reports/r1/index.html")) == "s3://bucket/reports/r1/index.html"
