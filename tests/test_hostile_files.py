"""Files written to do harm: code in pickles and YAML, entity bombs, oversized headers, HTML in names.

Each test writes the file where the project reads such files from others, and checks that it is refused by name, that
no code in it runs, and that it ends soon.
"""

import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tarfile
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks._tiny import NETWORK, make_store
from tests.messages import refusal

from emeg.data import BatchReader, Corpus, MicroBatch
from emeg.errors import EmegError, UserError
from emeg.ingest import IngestConfig, ingest
from emeg.reports import QualityConfig, quality
from emeg.service.report_server import _list
from emeg.service.settings import read_settings
from emeg.store import (
    QuarantineRecord,
    Store,
    VerifyConfig,
    open_recording,
    publish_row,
    quarantine,
    read_catalog,
    read_quarantine,
    verify,
)
from emeg.tokenizers.braintokenizer import BrainTokenizer, BrainTokenizerConfig
from emeg.training import TrainTokenizerConfig
from emeg.training.loop.checkpoints import read_checkpoint


class Touch:
    """A pickle of this object creates a file when it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.file}",)


@pytest.fixture
def touched(tmp_path: Path) -> Path:
    """A file that exists when the code of a test's file has run."""
    return tmp_path / "touched"


CODE = "!!python/object/apply:os.system ['touch {file}']\n"


@pytest.mark.parametrize("where", ["--config", "recipe", "emeg.yaml", "mapping"])
def test_code_in_yaml_does_not_run_and_the_file_is_named(where: str, tmp_path: Path, touched: Path):
    file = tmp_path / "hostile.yaml"
    file.write_text(CODE.format(file=touched))
    (tmp_path / "archive").mkdir()
    if where == "recipe":
        with refusal(UserError, "hostile.yaml", action="correct"):
            TrainTokenizerConfig.checked({"root": "store", "recipe": str(file)}, source="test")
    elif where == "emeg.yaml":
        with refusal(UserError, "hostile.yaml", action="correct"):
            read_settings(file)
    else:
        options = ["--config", str(file)]
        if where == "mapping":
            options = [
                "--root",
                str(tmp_path / "store"),
                "--archive",
                str(tmp_path / "archive"),
                "--mapping",
                str(file),
            ]
        done = subprocess.run(
            [sys.executable, "-m", "emeg.cli", "ingest", *options], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1
        assert "hostile.yaml" in done.stderr
    assert not touched.exists()


def test_aliases_in_yaml_that_multiply_end_at_once(tmp_path: Path):
    """Nine levels of nine aliases are 400 million entries when they are written out."""
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    file = tmp_path / "emeg.yaml"
    file.write_text("\n".join([*levels, "name: *a8", "stores: *a8"]))
    code = (
        f"from pathlib import Path; from emeg.service.settings import read_settings; read_settings(Path({str(file)!r}))"
    )
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31)); {code}"
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=False, timeout=60)
    assert "UserError" in done.stderr.splitlines()[-1]
    assert "name" in done.stderr.splitlines()[-1]
    assert len(done.stderr) < 20_000


BOMB = """<?xml version="1.0"?>
<!DOCTYPE bomb [<!ENTITY a "aaaaaaaaaa">
{entities}]>
<fileInfo xmlns="http://www.egi.com/info_mff"><mffVersion>&e9;</mffVersion><recordTime>&e9;</recordTime></fileInfo>
"""


def test_an_entity_bomb_in_an_mff_is_a_refused_recording(shared: Path, tmp_path: Path):
    archive = tmp_path / "archive"
    mff = archive / "sub-01/eeg/sub-01_task-rest_eeg.mff"
    shutil.copytree(shared / "data/devices/egi-mff/example_3.mff", mff)
    names = "a", *(f"e{n}" for n in range(1, 10))
    entities = "\n".join(f'<!ENTITY {name} "{f"&{below};" * 10}">' for below, name in pairwise(names))
    for file in mff.glob("*.xml"):
        file.write_text(BOMB.format(entities=entities))
    root = str(tmp_path / "store")
    result = ingest(IngestConfig.model_validate({"archive": str(archive), "root": root, "workers": 1}))
    assert result.ready == ()
    (refused,) = read_quarantine(Store.open(root))
    assert refused.source.endswith(".mff")


def write_safetensors(file: Path, header: bytes, length: int | None = None) -> None:
    file.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    BrainTokenizer(BrainTokenizerConfig(**NETWORK)).save_pretrained(folder, provenance={})
    return folder


@pytest.mark.parametrize("kind", ["pickle", "endless header", "header beyond the file", "offsets beyond the file"])
def test_hostile_weights_are_refused_by_name(kind: str, model: Path, touched: Path):
    file = model / "model.safetensors"
    if kind == "pickle":
        file.write_bytes(pickle.dumps(Touch(touched)))
    elif kind == "endless header":
        write_safetensors(file, b"{}", length=2**62)
    elif kind == "header beyond the file":
        write_safetensors(file, b"{}", length=1000)
    else:
        entry = {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}
        write_safetensors(file, json.dumps({"encoder.weight": entry}).encode())
    with refusal(UserError, "model.safetensors", action=""):
        BrainTokenizer.from_pretrained(model)
    assert not touched.exists()


def test_pickled_weights_beside_a_model_are_never_read(model: Path, touched: Path):
    torch.save(Touch(touched), model / "pytorch_model.bin")
    BrainTokenizer.from_pretrained(model)
    assert not touched.exists()


def test_a_checkpoint_with_code_is_refused(tmp_path: Path, touched: Path):
    file = tmp_path / "last-00000001.ckpt"
    torch.save({"state_dict": {}, "emeg": Touch(touched)}, file)
    with pytest.raises(pickle.UnpicklingError):
        read_checkpoint(str(file))
    assert not touched.exists()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    make_store(tmp_path / "store", people=4, seconds=40.0)
    return Store.open(tmp_path / "store")


@pytest.mark.parametrize("kind", ["pickle codec", "endless array", "another codec", "no JSON"])
def test_a_hostile_zarr_array_is_refused(kind: str, store: Store, touched: Path):
    folder = store.location("recordings", "r00.zarr", "signal").local_path()
    meta = json.loads((folder / "zarr.json").read_text())
    sharding = meta["codecs"][0]["configuration"]
    if kind == "pickle codec":
        sharding["codecs"] = [{"name": "numcodecs.pickles", "configuration": {"protocol": 5}}]
        for chunk in folder.glob("c/*/*"):
            chunk.write_bytes(pickle.dumps(Touch(touched)))
    elif kind == "endless array":
        meta["shape"] = [2**31, 2**31]
    elif kind == "another codec":
        sharding["codecs"] = [{"name": "no-such-codec"}]
    (folder / "zarr.json").write_text("{" if kind == "no JSON" else json.dumps(meta))
    with refusal(EmegError, "r00", action=""):
        open_recording(store, "r00").read(0, 256)
    assert not touched.exists()
    found = verify(VerifyConfig(root=str(store.root)))
    assert any("r00" in str(fault) for fault in found.faults)


def test_a_hostile_tar_shard_is_neither_unpacked_nor_unpickled(store: Store, tmp_path: Path, touched: Path):
    corpus = Corpus.open(store, None)
    shards = sorted((corpus.folder / "shards").local_path().glob("*.tar"))
    members = (("../../escaped.npy", pickle.dumps(Touch(touched)), ""), ("link.npy", b"", "/etc/passwd"))
    for shard in shards:
        size = shard.stat().st_size
        with tarfile.open(shard, "w") as tar:
            for name, data, target in members:
                info = tarfile.TarInfo(name)
                info.size, info.linkname = len(data), target
                info.type = tarfile.SYMTYPE if target else tarfile.REGTYPE
                tar.addfile(info, BytesIO(data))
        os.truncate(shard, size)
    batch = BatchReader(Corpus.open(store, None)).read(MicroBatch((0,), (0,), corpus.n_samples))
    assert batch.signal.dtype == np.float32  # bytes of the shard are numbers, whatever they are
    assert not touched.exists()
    assert not list(tmp_path.rglob("escaped.npy"))
    found = verify(VerifyConfig(root=str(store.root)))
    assert any(corpus.name in str(fault) for fault in found.faults)


NASTY = "<img src=x onerror=alert(1)>\"'&"


def test_names_in_the_list_of_reports_are_escaped(tmp_path: Path):
    page = _list({f"/0/{NASTY}": tmp_path}, [Path(NASTY)])
    assert page.count("<") == page.count(">") == page.replace("<img", "").count("<")
    assert "&lt;img" in page
    assert "onerror=alert(1)>" not in page


def test_names_of_datasets_channels_and_licences_are_escaped_in_pages(tmp_path: Path):
    root = tmp_path / "store"
    make_store(root, people=4, seconds=40.0)
    store = Store.open(root)
    row, *_ = read_catalog(store)
    publish_row(
        store, row.model_copy(update={"dataset": NASTY, "device": NASTY, "licence": NASTY, "subject": NASTY}), []
    )
    quarantine(store, QuarantineRecord(dataset=NASTY, source=NASTY, stage="read", reason=NASTY, next_action=NASTY))
    pages = {name: Path(page).read_text() for name, page in quality(QualityConfig(root=str(root))).pages.items()}
    assert "&lt;img" in pages[NASTY]
    assert not any("<img src=x" in text for text in pages.values())
