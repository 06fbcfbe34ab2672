import json
from dataclasses import replace

import numpy as np
import pytest

from emeg.data import Corpus, TaskConfig, task_windows
from emeg.evaluation.leaks import declared_datasets, gather_setup, run_checks
from emeg.evaluation.leaks.setup import Sides
from emeg.evaluation.protocol.interfaces import Windows
from emeg.store import Store


@pytest.fixture
def evaluated(root):
    """Return a store, windows of its five held-out subjects with device x, and their sides in one fold."""
    store = Store.open(root)
    (corpus,) = store.names("corpora")
    held = sorted(name for name, split in Corpus.open(store, corpus).subjects.items() if split == "held_out")
    task = TaskConfig(name="t", classes={"left": ("left",), "right": ("right",)}, window_s=2.0, device="x")
    found = task_windows(store, task, held)
    n = len(found)
    windows = Windows(
        None,
        None,
        found.labels,
        found.subjects,
        np.array([""] * n),
        np.array(["d"] * n),
        np.array(["x"] * n),
        found.recordings,
        found.starts,
        (),
        found.sfreq,
    )
    rows = [np.flatnonzero(np.isin(found.subjects, part)) for part in (held[2:], held[1:2], held[:1])]
    sides = Sides(*rows, np.empty(0, np.int64))
    return store, windows, sides, found


def gathered(evaluated, **changes):
    store, windows, sides, found = evaluated
    given = {
        "rule": "cross_subject",
        "n_samples": found.n_samples,
        "layouts": found.layouts,
        "has_classes": True,
        "model": "omni",
        "groups": {},
    }
    return gather_setup(store, windows, [sides], **given | changes)


def test_what_the_model_was_trained_on_is_collected_and_held_out_subjects_pass(evaluated):
    setup = gathered(evaluated)
    trained = {name for splits in setup.pretraining.values() for name, split in splits.items() if split != "held_out"}
    assert trained
    assert not trained & set(setup.subjects.tolist())
    assert trained <= set(setup.owners.values()), "recordings of pretraining are fingerprinted too"
    assert all(len(track) for track in setup.fingerprints.values())
    assert [check.name for check in run_checks(setup) if not check.passed and check.stops] == []


def test_a_subject_of_pretraining_among_those_tested_fails(evaluated):
    setup = gathered(evaluated)
    trained = next(name for splits in setup.pretraining.values() for name, split in splits.items() if split == "train")
    subjects = setup.subjects.astype("U40")
    subjects[setup.folds[0].test] = trained
    failed = {check.name for check in run_checks(replace(setup, subjects=subjects)) if not check.passed}
    assert "pretraining_subjects" in failed


def test_datasets_declared_on_the_card_are_collected(evaluated):
    store, *_ = evaluated
    path = store.location("models", "omni", "config.json").local_path()
    card = json.loads(path.read_text())
    card["provenance"]["pretraining_datasets"] = ["ds000117", {"id": "d", "stage": "tokenizer"}]
    path.chmod(0o644)
    path.write_text(json.dumps(card))
    setup = gathered(evaluated)
    assert setup.pretraining_datasets == {"omni": ("ds000117", "d")}
    failed = {check.name: check.found for check in run_checks(setup) if not check.passed}
    assert "declares d among" in failed["pretraining_datasets"][0]


def test_a_dataset_of_the_models_own_corpus_is_checked_by_subject(evaluated):
    """What a training on a corpus of the lineage declares is known by name; any other training stays a declaration."""
    setup = gathered(evaluated)
    (corpus,) = setup.pretraining
    n = sum(split == "train" for split in setup.pretraining[corpus].values())
    own = {"id": "d", "subjects": n, "corpus": corpus}
    another = [own | {"corpus": "another"}, own | {"corpus": None}, own | {"id": "e"}, "d"]
    card = {"provenance": {"pretraining_datasets": [own, *another]}}
    assert declared_datasets(card, setup.pretraining) == ("d", "d", "e", "d")
    assert declared_datasets(card) == ("d", "d", "d", "e", "d")


def test_a_card_may_declare_at_the_top_or_nothing():
    assert declared_datasets({"pretraining_datasets": ["a"]}) == ("a",)
    assert declared_datasets({"provenance": None}) == ()
