"""The server of reports answers with pages of its stores under two addresses, and with nothing else."""

import threading
from http.server import ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from emeg.service.report_server import make_handler


@pytest.fixture
def address(tmp_path):
    for store, report in (("a", "r1"), ("b", "r2"), ("b", "r1")):
        folder = tmp_path / store / "reports" / report
        folder.mkdir(parents=True)
        (folder / "index.html").write_text(f"{store} {report}")
    server = ThreadingHTTPServer(("127.0.0.1", 0), make_handler([tmp_path / "a", tmp_path / "b"]))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(10)


def read(url):
    with urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def test_a_report_is_found_by_store_and_by_name(address):
    assert read(f"{address}/1/r1") == "b r1"
    assert read(f"{address}/r2") == "b r2"
    assert read(f"{address}/r1/") == "a r1", "the first store that has it"
    assert read(address).count("<a href") == 3


@pytest.mark.parametrize("path", ["r3", "2/r1", "../a/reports/r1/index.html", "0/../../secret"])
def test_other_paths_lead_nowhere(address, path):
    with pytest.raises(HTTPError) as refused:
        read(f"{address}/{path}")
    assert refused.value.code == 404
    refused.value.close()
