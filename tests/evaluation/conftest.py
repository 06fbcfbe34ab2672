"""A store of subjects with conditions that differ in lateralised alpha, with a corpus and a small network."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.small_models import (
    SMALL,
    one_thread,  # noqa: F401 - a fixture for the folder
)

from emeg.data import ShardConfig, TokenSet, shard
from emeg.models import BrainOmni, BrainOmniConfig
from emeg.sensors import Sensors, SensorType
from emeg.store import CatalogRow, Event, RecordingAttributes, Store, publish_row, write_recording
from emeg.tokenizers.braintokenizer import BrainTokenizerConfig
from emeg.training import TokenizeConfig, tokenize

SFREQ = 256.0
TOKENIZER = BrainTokenizerConfig(**SMALL)


def add_person(
    store: Store,
    subject: str,
    *,
    names: tuple[str, ...],
    device: str = "x",
    session: str = "",
    conditions: tuple[str, ...] = ("left", "right"),
    events: bool = True,
    seconds: float = 40.0,
    kind: SensorType = SensorType.EEG,
) -> str:
    """Trials of 2 s of some conditions in turn; alpha is stronger on the left and on the right alternately."""
    recording = f"d{subject}{device}{session}"
    generator = np.random.default_rng(list(recording.encode()))
    directions = np.random.default_rng(len(names)).normal(size=(len(names), 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    sensors = Sensors(
        names=names,
        types=np.full(len(names), kind, np.int8),
        units=("V",) * len(names),
        positions=directions * 0.09,
        orientations=np.zeros((len(names), 3)),
        coils=np.ones(len(names), np.int32),
    )
    time = np.arange(round(seconds * SFREQ)) / SFREQ
    signal = 1e-5 * generator.normal(size=(len(names), len(time)))
    trials = [Event(2.0 * k, 2.0, conditions[k % len(conditions)], "") for k in range(int(seconds // 2))]
    for k, trial in enumerate(trials):
        at = (time >= trial.onset_s) & (time < trial.onset_s + 2.0)
        signal[k % 2, at] += 3e-5 * np.sin(2 * np.pi * 10 * time[at])
    shared = {"device": device, "dataset": "d", "subject": subject, "config_hash": "c", "version": "0"}
    shared |= {"layout": sensors.layout_id, "source": f"{recording}.edf", "licence": "CC0"}
    attributes = RecordingAttributes(sfreq=SFREQ, pass_band=(0.1, 96.0), **shared)
    bad = np.zeros((len(names), int(np.ceil(seconds))), np.uint8)
    write_recording(store, recording, signal.astype(np.float32), sensors=sensors, attributes=attributes, bad=bad)
    row = CatalogRow(
        recording=recording,
        modality="eeg" if kind == SensorType.EEG else "ieeg",
        n_channels=len(names),
        n_eeg=len(names) * (kind == SensorType.EEG),
        n_magnetometers=0,
        n_gradiometers=0,
        sfreq_source=SFREQ,
        duration_s=seconds,
        pass_band_low=0.1,
        pass_band_high=96.0,
        n_events=len(trials) * events,
        session=session,
        **shared,
    )
    publish_row(store, row, trials if events else [])
    return recording


def add_model(store: Store, corpus: str, tokens: str | None = None, name: str = "omni", seed: int = 0) -> str:
    """Publish an untrained BrainOmni with the provenance of a trained one."""
    torch.manual_seed(seed)
    model = BrainOmni(BrainOmniConfig(lm_dim=16, lm_head=2, lm_depth=2), TOKENIZER)
    with store.publishing("models", name) as folder:
        model.save_pretrained(folder, provenance={"corpus": corpus, "recipe": {"tokens": tokens}})
    if not store.has("models", "tokenizer"):
        with store.publishing("models", "tokenizer") as folder:
            model.tokenizer.save_pretrained(folder, provenance={"corpus": corpus})
    return name


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Path:
    store = Store.open(tmp_path_factory.mktemp("evaluation") / "store", create=True)
    for i in range(10):
        add_person(store, f"{i:02d}", names=("C3", "C4", "Cz", "Pz", "O1"))
    for i in range(3):
        add_person(store, f"{i:02d}", names=("A", "B", "C"), device="y", events=False, seconds=20.0)
    corpus = shard(ShardConfig(root=str(store.root), held_out=0.5)).corpus
    add_model(store, corpus)
    tokens = tokenize(TokenizeConfig(root=str(store.root), tokenizer="tokenizer", device="cpu")).tokens
    shutil.rmtree(store.location("models", "omni").local_path())
    add_model(store, corpus, tokens)
    assert len(TokenSet.open(store, tokens)) > 0
    return store.root.local_path()


@pytest.fixture
def root(made_once, tmp_path) -> str:
    """Return a store of ten subjects with five channels and two conditions; three also have a device without events."""
    shutil.copytree(made_once, tmp_path / "store")
    return str(tmp_path / "store")
