import hashlib
import json
import pickle
import tarfile
import warnings

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.data.conftest import sensors_of
from tests.messages import refusal

from emeg.data import Corpus, ShardConfig, shard
from emeg.data.corpus.tar_shards import chunk_edges, pack
from emeg.errors import UserError
from emeg.store import BadReason, Store, open_recording


def config_of(store, **settings):
    return ShardConfig(root=str(store.root), **settings)


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_corpus_is_the_same_bytes_twice_and_found_the_second_time(people, tmp_path):
    first = shard(config_of(people))
    assert not first.done_before
    folder = people.location("corpora", first.corpus).local_path()
    assert {p.split("/")[0] for p in tree(folder)} == {"manifest.json", "segments.parquet", "layouts.parquet", "shards"}
    again = shard(config_of(people))
    assert again == first.model_copy(update={"done_before": True})
    moved = folder.rename(tmp_path / "aside")
    assert shard(config_of(people)) == first
    assert tree(folder) == tree(moved)
    assert not (
        people.location(".partial").local_path().exists() and list(people.location(".partial").local_path().iterdir())
    )


def test_people_are_in_one_split_and_segments_follow_them(people):
    result = shard(config_of(people))
    corpus = Corpus.open(people, result.corpus)
    assert result.n_segments == len(corpus) == 4 * 3 + 3 * 3 + 3 * 2
    assert result.hours == pytest.approx(result.n_segments * 10 / 3600)
    splits = {}
    for subject, split in zip(corpus.column("subject"), corpus.column("split"), strict=True):
        assert splits.setdefault(subject, split) == split
    assert splits == corpus.subjects
    assert set(splits.values()) == {"train", "validation", "held_out"}
    for device in ("x", "y"):
        of_device = set(corpus.column("split")[corpus.column("device") == device])
        assert {"train", "held_out"} <= of_device
    assert result.segments == {s: int((corpus.column("split") == s).sum()) for s in result.segments}


@pytest.mark.parametrize("segment_s", [10.0, 4.0, 15.0])
def test_segments_are_the_recording_bit_for_bit(people, segment_s):
    corpus = Corpus.open(people, shard(config_of(people, segment_s=segment_s)).corpus)
    n = round(segment_s * 256)
    seen = set()
    order = np.random.default_rng(0).permutation(len(corpus)).tolist()
    for segment in corpus.read(order):
        recording, start = str(corpus.column("recording")[segment.row]), int(corpus.column("start")[segment.row])
        values = open_recording(people, recording).read(start, start + n)
        assert np.array_equal(segment.values(), values)
        assert np.array_equal(segment.values(700, 900), values[:, 700:900])
        assert segment.signal.dtype == np.int16
        seen.add((recording, start))
    expected = {(r["recording"], s) for r in corpus.manifest["recordings"] for s in range(0, r["n_samples"] - n + 1, n)}
    assert seen == expected
    assert len(order) == len(expected)


def test_layouts_are_the_recordings_sensors(people):
    corpus = Corpus.open(people, shard(config_of(people)).corpus)
    for sensors in (sensors_of(5), sensors_of(3, 4)):
        pos, types = corpus.layouts[sensors.layout_id]
        assert np.array_equal(pos, sensors.model_positions())
        assert np.array_equal(types, sensors.types)
    sample = corpus.samples([len(corpus) - 1], [256], 512)[0]
    assert sample.signal.shape == (7, 512)
    assert sample.sensor_type.tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_stock_webdataset_reads_the_shards(people):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import webdataset
    corpus = Corpus.open(people, shard(config_of(people, segment_s=4.0, max_shard_bytes=200_000)).corpus)
    folder = corpus.folder.local_path() / "shards"
    assert len(corpus.manifest["shards"]) > 6  # channel counts times splits, and more
    rows = []
    for described in corpus.manifest["shards"]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = webdataset.WebDataset(str(folder / described["name"]), shardshuffle=False).decode()
            samples = list(dataset)
        assert len(samples) == described["n_segments"]
        for sample in samples:
            about = sample["json"]
            segment = corpus.read([about["segment"]])[0]
            assert np.array_equal(sample["signal.npy"], segment.signal)
            assert np.array_equal(sample["step.npy"], segment.scale)
            assert tuple(about["chunk_edges"]) == segment.edges
            assert about["split"] == described["split"] == str(corpus.column("split")[segment.row])
            assert len(segment.signal) == described["channels"]
            rows.append(about["segment"])
    assert rows == list(range(len(corpus)))


def test_the_manifest_tells_everything(people):
    result = shard(config_of(people, held_out_subjects=("d/04",), exclude_devices=("y",), seed=3))
    corpus = Corpus.open(people, result.corpus)
    manifest = corpus.manifest
    assert manifest["subjects"]["d/04"] == "held_out"
    assert "d/04" in manifest["held_out_subjects"]
    assert manifest["excluded_devices"] == ["y"]
    assert set(corpus.column("device")) == {"x"}
    assert manifest["config"]["seed"] == 3
    assert "root" not in json.dumps(manifest)
    for described in manifest["shards"]:
        data = (corpus.folder / "shards" / described["name"]).read_bytes()
        assert len(data) == described["bytes"]
        assert hashlib.sha256(data).hexdigest() == described["sha256"]
    corpus.verify()
    table = pq.read_table(corpus.folder.local_path() / "segments.parquet")
    assert table["segment"].to_pylist() == list(range(len(corpus)))


def test_order_mixes_people_and_recordings(people):
    corpus = Corpus.open(people, shard(config_of(people, segment_s=1.0)).corpus)
    rows = np.flatnonzero((corpus.column("split") == "train") & (corpus.column("channels") == 5))
    subjects = corpus.column("subject")[rows]
    assert np.mean(subjects[1:] == subjects[:-1]) < 0.6
    starts = corpus.column("start")[rows]
    assert abs(np.corrcoef(np.arange(len(starts)), starts)[0, 1]) < 0.4


def test_another_seed_or_recording_is_another_corpus(people, add_recording):
    first = shard(config_of(people)).corpus
    assert shard(config_of(people, seed=1)).corpus != first
    add_recording("99")
    assert shard(config_of(people)).corpus != first
    assert len(people.names("corpora")) == 3


def test_stretches_without_signal_are_left_out_and_counted(store, add_recording):
    for i in range(3):
        bad = np.zeros((5, 35), np.uint8)
        bad[:, 12] = BadReason.FLAT  # everything flat in the second segment
        bad[0, :] |= np.uint8(BadReason.NAN)  # one channel is no reason
        bad[:, 25] = BadReason.NOISY  # nor is noise
        add_recording(f"{i}", bad=bad)
    add_recording("short", seconds=9.0)
    result = shard(config_of(store))
    assert (result.n_segments, result.n_left_out, result.n_too_short, result.n_recordings) == (6, 3, 1, 3)
    corpus = Corpus.open(store, result.corpus)
    assert set(corpus.column("start").tolist()) == {0, 5120}
    assert "d/short" not in corpus.subjects


def test_refusals(store, add_recording, people):
    with refusal(UserError, "exclude_devices", "no z", action="x, y"):
        shard(config_of(people, exclude_devices=("z",)))
    with refusal(UserError, "held_out_subjects", "d/77", action="d/00, d/01"):
        shard(config_of(people, held_out_subjects=("d/77",)))
    with refusal(UserError, "segment_s=100.0", action="segment_s"):
        shard(config_of(people, segment_s=100.0))
    add_recording("00", config_hash="c1")
    with refusal(UserError, "dataset d", "c0, c1", action="config_hashes"):
        shard(config_of(people))
    with refusal(UserError, "d/00", action="held_out"):
        shard(config_of(people, config_hashes=("c1",)))
    assert people.names("corpora") == []
    empty = Store.open(store.root.local_path().parent / "empty", create=True)
    with refusal(UserError, empty.root, action="`emeg ingest`"):
        shard(config_of(empty))


def test_damage_is_noticed_before_it_is_read(people):
    corpus = Corpus.open(people, shard(config_of(people)).corpus)
    path = corpus.folder.local_path() / "shards" / corpus.manifest["shards"][0]["name"]
    path.chmod(0o644)
    data = path.read_bytes()
    path.write_bytes(data[:-10240])
    with refusal(UserError, path, "266240", action="shard again"):
        corpus.read([0])
    path.write_bytes(data[:-1] + b"x")
    with refusal(UserError, path, action="`emeg shard`"):
        corpus.verify()
    path.unlink()
    with refusal(UserError, path, action="shard again"):
        corpus.read([0])
    manifest = corpus.folder.local_path() / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"train"', '"held_out"'))
    with refusal(UserError, manifest, action="shard again"):
        Corpus.open(people, corpus.name)


def test_datasets_that_share_people(store, add_recording):
    for i in range(6):
        add_recording(f"{i}", dataset="a")
        add_recording(f"{i}", dataset="b")
    config = config_of(store, same_subjects_as={"b": "a"})
    subjects = Corpus.open(store, shard(config).corpus).subjects
    assert all(subjects[f"a/{i}"] == subjects[f"b/{i}"] for i in range(6))


def test_a_corpus_travels_by_pickle(people):
    corpus = Corpus.open(people, shard(config_of(people)).corpus)
    copy = pickle.loads(pickle.dumps(corpus))
    assert np.array_equal(copy.read([3])[0].signal, corpus.read([3])[0].signal)


def test_a_bucket_holds_the_same_corpus(people):
    memory = fsspec.filesystem("memory")
    memory.put(str(people.root.local_path()) + "/", "/bucket/", recursive=True)
    try:
        result = shard(config_of(people))
        corpus = Corpus.open(people, result.corpus)
        remote = Store.open("memory://bucket")
        assert shard(ShardConfig(root="memory://bucket")) == result
        assert shard(ShardConfig(root="memory://bucket")).done_before
        for name, content in tree(corpus.folder.local_path()).items():
            assert (remote.location("corpora", corpus.name) / name).read_bytes() == content
        there = Corpus.open(remote)
        for a, b in zip(there.read([2, 9, 3]), corpus.read([2, 9, 3]), strict=True):
            assert np.array_equal(a.signal, b.signal)
            assert np.array_equal(a.scale, b.scale)
    finally:
        memory.rm("/bucket", recursive=True)


def test_pack_and_edges():
    assert pack([5, 5, 5, 20, 1], 10) == [(0, 2), (2, 3), (3, 4), (4, 5)]
    assert pack([], 10) == []
    assert chunk_edges(0, 2560, 2560) == [0, 2560]
    assert chunk_edges(1024, 5120, 2560) == [0, 1536, 4096, 5120]
    assert chunk_edges(2560 * 3, 5120, 2560) == [0, 2560, 5120]


def test_shards_are_what_tarfile_would_write(people, tmp_path):
    corpus = Corpus.open(people, shard(config_of(people, segment_s=4.0)).corpus)
    for described in corpus.manifest["shards"]:
        path = corpus.folder.local_path() / "shards" / described["name"]
        copy = tmp_path / path.name
        with tarfile.open(path) as tar, tarfile.open(copy, "w", format=tarfile.USTAR_FORMAT) as other:
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
                assert member.name.split(".")[0].isdigit()
                other.addfile(member, tar.extractfile(member))
        assert copy.read_bytes() == path.read_bytes()


def test_a_corpus_can_hold_everybody_out(people):
    made = shard(config_of(people, held_out=1.0))
    assert made.n_subjects == {"train": 0, "validation": 0, "held_out": 7}
    assert set(Corpus.open(people, made.corpus).subjects.values()) == {"held_out"}
