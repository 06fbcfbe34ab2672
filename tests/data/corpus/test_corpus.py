import shutil
from pathlib import Path

import numpy as np
from tests.messages import refusal

from emeg.data import Corpus, ShardConfig, shard
from emeg.errors import UserError
from emeg.sensors import sensor_regions
from emeg.store import open_recording


def test_a_corpus_shows_its_splits(people):
    made = shard(ShardConfig(root=str(people.root), held_out=0.5, validation=0.2))
    corpus = Corpus.open(people)
    text = repr(corpus)
    assert made.corpus in text
    assert f"{made.n_segments} segments" in text
    for split, n in made.n_subjects.items():
        assert f"{n} {split}" in text
    html = corpus._repr_html_()
    assert all(f"<td>{n}</td>" in html for n in made.segments.values())


def test_regions_come_from_the_recordings_and_change_nothing_else(people):
    shard(ShardConfig(root=str(people.root), segment_s=10))
    corpus, plain = Corpus.open(people), Corpus.open(people)
    corpus.add_regions(people)
    for layout, (pos, types) in plain.layouts.items():
        with_regions, same = corpus.layouts[layout]
        np.testing.assert_array_equal(with_regions[:, :6], pos)
        np.testing.assert_array_equal(same, types)
    row = int(np.argmax(corpus.column("channels")))
    rows = np.array([row])
    channels = int(corpus.column("channels")[row])
    sensors = open_recording(people, str(corpus.column("recording")[row])).sensors
    np.testing.assert_array_equal(corpus.sensors_of(rows, channels)[0][0, :, 6], sensor_regions(sensors))
    assert not corpus.has_intracranial


def test_regions_need_the_recordings_of_the_corpus(people):
    shard(ShardConfig(root=str(people.root), segment_s=10))
    corpus = Corpus.open(people)
    for folder in Path(str(people.root), "recordings").iterdir():
        shutil.rmtree(folder)
    with refusal(UserError, corpus.name, action="without regions"):
        corpus.add_regions(people)
