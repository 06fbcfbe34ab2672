"""A complete store has no fault; every planted fault is found and named."""

import json

import numpy as np
import pytest

from emeg.hashing import hash_json
from emeg.store import VerifyConfig, publish_row, verify, write_recording

N = 3 * 2560


@pytest.fixture
def store(local_store, sensors, attributes, row):
    four = sensors(4)
    for i in range(2):
        signal = (1e-5 * np.random.default_rng(i).normal(size=(4, N))).astype(np.float32)
        bad = np.zeros((4, 30), np.uint8)
        write_recording(local_store, f"r{i}", signal, sensors=four, attributes=attributes(four), bad=bad)
        made = row(f"r{i}", n_channels=4, layout=four.layout_id, duration_s=30.0, n_events=0)
        publish_row(local_store, made, [])
    return local_store


def faults(store):
    result = verify(VerifyConfig(root=str(store.root)))
    assert result.failed == bool(result.faults)
    return [(fault.product, fault.problem) for fault in result.faults]


def test_a_whole_store_has_no_fault(store):
    assert faults(store) == []


def test_a_flipped_byte_in_a_chunk_is_found(store, tmp_path):
    path = max((tmp_path / "store/recordings/r0.zarr/signal").rglob("*"), key=lambda p: p.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(data)
    found = dict(faults(store))
    assert set(found) == {"recordings/r0", "recordings/r0.zarr"}
    assert "damaged" in found["recordings/r0"]
    assert "sha256 differs" in found["recordings/r0.zarr"]


def test_rows_and_recordings_must_know_each_other(store, tmp_path):
    (tmp_path / "store/catalog/recordings/r0.parquet").unlink()
    (tmp_path / "store/recordings/r1.zarr/zarr.json").unlink()
    found = dict(faults(store))
    assert "has no row" in found["recordings/r0.zarr"]
    assert "not in the store" in found["catalog/recordings/r1"]


def test_a_row_that_tells_otherwise_is_found(store, row):
    publish_row(store, row("r0", n_channels=5, layout="other", duration_s=31.0, n_events=2), [])
    problems = " | ".join(problem for _, problem in faults(store))
    for word in ("channels: the row says 5, there are 4", "layout", "seconds", "events: the row says 2, there are 0"):
        assert word in problems


def test_codes_and_weights_that_were_cut_are_found(store, tmp_path):
    codes = b"codes" * 100
    manifest = {"bytes": 500, "sha256": "0" * 64, "corpus": "gone", "tokenizer": "t"}
    with store.publishing("tokens", "a") as folder:
        (folder / "codes.npy").write_bytes(codes)
        (folder / "manifest.json").write_text(json.dumps(manifest))
    header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    with store.publishing("models", "t") as folder:
        (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
        (folder / "config.json").write_text("{}")
    problems = " | ".join(f"{product} {problem}" for product, problem in faults(store))
    assert "tokens/a codes.npy was changed" in problems
    assert "corpora/gone" in problems
    assert "models/t weights of" in problems
    (tmp_path / "store/tokens/a/codes.npy").write_bytes(codes[:-5])
    assert "codes.npy has 495 bytes of 500" in " | ".join(problem for _, problem in faults(store))


def test_a_corpus_with_a_changed_manifest_or_shard_is_found(store):
    manifest = {"shards": [{"name": "4-00000.tar", "bytes": 3, "sha256": "0" * 64}]}
    name = hash_json(manifest)
    for product in (name, "0123456789abcdef"):
        with store.publishing("corpora", product) as folder:
            (folder / "shards").mkdir()
            (folder / "shards/4-00000.tar").write_bytes(b"abc")
            (folder / "manifest.json").write_text(json.dumps(manifest))
    found = faults(store)
    assert ("corpora/0123456789abcdef", "its manifest was changed") in found
    assert (f"corpora/{name}", "its manifest was changed") not in found
    assert (f"corpora/{name}", "4-00000.tar was changed: its sha256 differs") in found
