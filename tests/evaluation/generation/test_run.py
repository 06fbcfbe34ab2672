"""The verb generate and its page on a small store."""

import shutil

import numpy as np
import pytest
from tests.messages import refusal
from tests.small_models import one_thread, small_brainomni  # noqa: F401 - a fixture
from tests.training.conftest import root  # noqa: F401 - a fixture

from emeg.data import Corpus
from emeg.errors import UserError
from emeg.evaluation import read_arrays
from emeg.evaluation.generation import GenerateConfig, generate, read_generation
from emeg.evaluation.generation.products import score_of
from emeg.models.causal.config import CausalConfig
from emeg.models.causal.transformer import CausalTransformer
from emeg.reports import ReportConfig, report
from emeg.store import Store, open_recording
from emeg.tokenizers.mulaw import MuLaw, MuLawConfig

CONFIG = {"prompt_s": 2.0, "continuation_s": 2.0, "contexts_s": (1.0, 4.0), "device": "cpu", "examples": 1}


@pytest.fixture
def store(root, tmp_path):  # noqa: F811
    """A store with an untrained causal network."""
    opened = Store.open(shutil.copytree(root, tmp_path / "store"))
    sizes = CausalConfig(width=16, n_head=2, depth=2, context_tokens=128, across_sources=False)
    network = CausalTransformer(sizes, MuLaw(MuLawConfig(n_codes=16)))
    with opened.publishing("models", "causal1") as folder:
        network.save_pretrained(folder, provenance={"corpus": opened.only("corpora", None)})
    return opened


def test_sources_contexts_and_the_page(store):
    made = generate(GenerateConfig(root=str(store.root), recordings=3, **CONFIG))
    summary = read_generation(store, made.evaluation)
    assert made.n_recordings == len(summary.recordings) == len(set(summary.recordings))
    assert {one.context_s for one in summary.scores} == {1.0, 2.0, 4.0}
    assert {"model", "linear_model", "linear_other", "prompt", "elsewhere"} <= {one.source for one in summary.scores}
    assert all(set(one.by_subject) <= set(summary.subjects) for one in summary.scores)
    assert all(np.isfinite(one.mean) for one in summary.scores)
    arrays = read_arrays(store, made.evaluation)
    sensors = open_recording(store, summary.recordings[0]).sensors
    assert arrays["continuations/0"].shape == (len(sensors), 512)
    assert generate(GenerateConfig(root=str(store.root), recordings=3, **CONFIG)).done_before
    page = report(ReportConfig(root=str(store.root)))
    html = store.read_bytes("reports", page.report, "index.html").decode()
    assert "the recording elsewhere" in html
    assert summary.examples[0]["recording"] in html


def test_recordings_can_be_those_of_a_split_and_of_datasets(store):
    made = generate(GenerateConfig(root=str(store.root), split="validation", draws=2, **CONFIG))
    corpus = Corpus.open(store)
    of_split = set(corpus.column("subject")[corpus.column("split") == "validation"].tolist())
    assert set(read_generation(store, made.evaluation).subjects) <= of_split
    with refusal(UserError, "datasets", "nowhere", action="choose from"):
        generate(GenerateConfig(root=str(store.root), datasets=("nowhere",), **CONFIG))


def test_scores_are_means_over_subjects_with_an_interval_over_subjects():
    values = {"a": [1.0, 3.0], **{name: [0.0] for name in "bcde"}}
    found = score_of("model", 1.0, "spectrum_db", values)
    assert (found.mean, found.n_recordings, found.by_subject["a"]) == (pytest.approx(0.4), 6, 2.0)
    assert found.low == 0
    assert score_of("model", 1.0, "spectrum_db", {"a": [1.0], "b": [2.0]}).low is None


def test_a_network_that_predicts_no_next_token_is_refused(store):
    with store.publishing("models", "omni1") as folder:
        small_brainomni().save_pretrained(folder, provenance={"corpus": store.only("corpora", None)})
    with refusal(UserError, "omni1", "brainomni", action="next_token"):
        generate(GenerateConfig(root=str(store.root), model="omni1", **CONFIG))


def test_recordings_that_are_too_short_are_refused(store):
    with refusal(UserError, "no held-out recording", action="prompt_s"):
        generate(GenerateConfig(root=str(store.root), **CONFIG | {"continuation_s": 500.0}))
