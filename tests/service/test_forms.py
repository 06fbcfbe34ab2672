"""Forms of deployments: lists to choose from, and texts that a page shows as they are."""

import json

from emeg.service.forms import with_choices
from emeg.service.settings import ServiceConfig
from emeg.service.wanted import FLOWS, flow_schema
from emeg.store import Store


def test_a_form_offers_stores_recipes_and_products(tmp_path):
    store = Store.open(tmp_path / "store", create=True)
    with store.publishing("corpora", "abc") as folder:
        (folder / "manifest.json").write_text("{}")
    settings = ServiceConfig(name="lab", stores={"main": str(store.root), "other": "s3://bucket/store"})
    schema = with_choices(flow_schema("train-tokenizer")[0], settings, str(store.root))
    fields = schema["definitions"]["TrainTokenizerConfig"]["properties"]
    assert list(fields)[:3] == ["root", "recipe", "corpus"]
    assert fields["root"]["enum"] == [str(store.root), "s3://bucket/store"]
    assert "braintokenizer-nano" in fields["recipe"]["anyOf"][0]["enum"]
    assert fields["corpus"]["anyOf"][0]["enum"] == ["abc"]


def test_no_help_text_of_a_form_looks_like_markup():
    """Prefect's page shows descriptions as Markdown and drops what stands in angle brackets."""
    for flow in FLOWS:
        described = [line for line in json.dumps(flow_schema(flow)[0], indent=0).splitlines() if "description" in line]
        assert not [line for line in described if "<" in line], flow
