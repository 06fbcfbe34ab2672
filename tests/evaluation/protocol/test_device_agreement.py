import json
from pathlib import Path

import pytest
import torch
from tests.evaluation.conftest import add_person
from tests.evaluation.protocol.test_run import HANDS, config_of, write_recipe
from tests.small_models import SMALL

from emeg.evaluation import evaluate
from emeg.evaluation.protocol.device_agreement import View, device_agreement, simultaneous_views
from emeg.models import BrainOmni, BrainOmniConfig
from emeg.store import Store, read_catalog
from emeg.tokenizers.braintokenizer import BrainTokenizerConfig

NAMES = ("C3", "C4", "Cz")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return BrainOmni(BrainOmniConfig(lm_dim=16, lm_head=2, lm_depth=2), BrainTokenizerConfig(**SMALL)).eval()


@pytest.fixture
def store(tmp_path) -> Store:
    """Two subjects on devices x and y at the same time; a third on x alone, and again on y with other events."""
    store = Store.open(str(tmp_path / "devices"), create=True)
    for subject in ("00", "01"):
        add_person(store, subject, names=NAMES)
        add_person(store, subject, names=(*NAMES, "Pz"), device="y")
    add_person(store, "02", names=NAMES)
    add_person(store, "02", names=NAMES, device="y", seconds=20.0)
    return store


def test_recordings_with_equal_events_and_length_are_simultaneous(store):
    found = simultaneous_views(store, read_catalog(store))
    assert found == [(View("x", f"d{subject}x", ""), View("y", f"d{subject}y", "")) for subject in ("00", "01")], (
        "the third subject's recordings differ in length and events"
    )
    row = read_catalog(store)[0]
    other = row.model_copy(update={"device": "z", "session": "2"})
    assert simultaneous_views(store, [row, other]) == [], "another session is another time"


def test_without_events_nothing_is_known_of_the_time(tmp_path):
    store = Store.open(str(tmp_path / "silent"), create=True)
    for device in ("x", "y"):
        add_person(store, "00", names=NAMES, device=device, events=False)
    assert simultaneous_views(store, read_catalog(store)) == []


def test_eeg_and_meg_of_one_recording_are_two_devices(store):
    row = read_catalog(store)[0]
    both = row.model_copy(update={"n_eeg": 3, "n_magnetometers": 5, "n_channels": 8, "device": "vv"})
    (views,) = simultaneous_views(store, [both])
    assert [(view.device, view.sensors) for view in views] == [("vv, EEG", "eeg"), ("vv, MEG", "meg")]


def test_a_device_agrees_with_its_copy_and_each_pair_has_its_subjects(store, network, monkeypatch):
    from emeg.evaluation.protocol import device_agreement as module

    (found,) = device_agreement(store, network, ["d/00", "d/01", "d/02"], window_s=2.0)
    assert (found["devices"], found["n_subjects"], found["n_windows"]) == (("x", "y"), 2, 40)
    assert 0 <= max(found["agreement"]) <= 1
    assert device_agreement(store, network, ["d/02"], window_s=2.0) == []
    read = module.open_recording
    monkeypatch.setattr(module, "open_recording", lambda store, name: read(store, name.replace("y", "x")))
    (copy,) = device_agreement(store, network, ["d/00", "d/01"], window_s=2.0)
    assert copy["agreement"] == pytest.approx((1.0,) * len(copy["agreement"]))
    assert max(copy["shifted"]) < 1.0


def test_probes_of_an_evaluation_have_it(root, tmp_path):
    store = Store.open(root)
    unseen = sorted({row.subject for row in read_catalog(store) if row.dataset == "d"})
    for subject in unseen:
        add_person(store, subject, names=("C3", "C4", "Cz"), device="w")
    within = {"rule": "within_subject_blocks", "n_folds": 3}
    task = write_recipe(tmp_path, HANDS, split=within)
    result = evaluate(config_of(root, task, probes=True, rivals=("chance",), random_weights=False))
    probes = json.loads((Path(root) / "evaluations" / result.evaluation / "probes.json").read_text())
    (found,) = probes["hands"]["device_tokens"]
    assert (found["devices"], found["n_subjects"]) == (["w", "x"], 5)
    assert len(found["agreement"]) == len(found["shifted"]) == len(found["chance"])
