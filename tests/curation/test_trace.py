"""Lineage on a store whose products are written by hand: back to files and licences, forward from a subject."""

import json
from pathlib import Path

import pytest
from benchmarks._tiny import make_store
from tests.messages import refusal

from emeg.curation import LineageConfig, lineage
from emeg.curation.product_graph import ProductGraph
from emeg.curation.trace import write_page
from emeg.errors import UserError
from emeg.store import Store


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five recordings, a corpus, and a chain tokenizer → tokens → model → evaluation → report; one model apart."""
    root = tmp_path_factory.mktemp("lineage")
    make_store(root, people=5, seconds=40.0)
    (corpus,) = Store.open(root).names("corpora")

    def write(kind: str, name: str, marker: str, content: dict) -> None:
        (root / kind / name).mkdir(parents=True)
        (root / kind / name / marker).write_text(json.dumps(content))

    write("models", "tokenizer1", "config.json", {"kind": "braintokenizer", "provenance": {"corpus": corpus}})
    write("tokens", "tokens1", "manifest.json", {"corpus": corpus, "tokenizer": "tokenizer1"})
    write("models", "omni1", "config.json", {"provenance": {"corpus": corpus, "tokens": "tokens1"}})
    write("models", "apart", "config.json", {"provenance": {"corpus": None}})
    write("evaluations", "evaluation1", "figures.json", {"provenance": {"model": "omni1", "corpus": corpus}})
    write("reports", "report1", "figures.json", {"evaluation": "evaluation1"})
    (root / "reports/report1/index.html").write_text("<p>page</p>")
    return root


def names(steps) -> list[str]:
    return [step.name for step in steps]


def test_a_report_is_traced_to_its_files_and_licence(root: Path):
    (corpus,) = Store.open(root).names("corpora")
    found = lineage(LineageConfig(root=str(root), of="report1"))
    assert names(found.back) == ["evaluation1", "omni1", "tokens1", "tokenizer1", corpus]
    (source,) = found.sources
    assert (source.dataset, source.licence) == ("d", "CC0")
    assert source.files == tuple(f"{n:02d}.edf" for n in range(5))
    assert found.forward == ()
    text = found.as_text()
    assert "CC0" in text
    assert "03.edf" in text


def test_inputs_are_direct_ones_only(root: Path):
    (corpus,) = Store.open(root).names("corpora")
    graph = ProductGraph(Store.open(root))
    assert graph.inputs(("models", "omni1")) == [("tokens", "tokens1")]
    assert graph.inputs(("tokens", "tokens1")) == [("models", "tokenizer1")]
    assert graph.inputs(("models", "tokenizer1")) == [("corpora", corpus)]


def test_a_subject_is_traced_to_every_product_that_holds_them(root: Path):
    (corpus,) = Store.open(root).names("corpora")
    found = lineage(LineageConfig(root=str(root), of="d/03"))
    assert set(names(found.forward)) == {corpus, "tokenizer1", "tokens1", "omni1", "evaluation1", "report1"}
    assert found.sources[0].files == ("03.edf",)
    assert found.back == ()


def test_an_unknown_name_is_refused_with_the_forms_of_names(root: Path):
    with refusal(UserError, "nothing", action="dataset/subject"):
        lineage(LineageConfig(root=str(root), of="nothing"))


def test_the_page_escapes_names(root: Path, tmp_path: Path):
    page = tmp_path / "lineage.html"
    found = lineage(LineageConfig(root=str(root), of="omni1", html=str(page)))
    assert "03.edf" in page.read_text()
    hostile = found.sources[0].model_copy(update={"files": ("<script>alert(1)</script>.edf",)})
    text = write_page(found.model_copy(update={"sources": (hostile,)}))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
