"""Two archives, one intracranial and one of scalp EEG, in one store: from simulation to report by the same verbs."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import mne
import numpy as np
import pytest
import torch
from tests.pages import ROOT, files_of, python_of
from tests.small_models import SMALL

from emeg.data import Corpus, SamplingConfig, ShardConfig, shard
from emeg.evaluation import EvaluateConfig, evaluate
from emeg.export import ExportBidsConfig, export_bids
from emeg.ingest import IngestConfig, ingest
from emeg.models import BrainOmni
from emeg.plugins import find_plugin
from emeg.reports import ReportConfig, report
from emeg.sensors import REGIONS, SensorType, positions_with_regions, sensor_regions
from emeg.store import Store, open_recording, read_catalog, read_events
from emeg.synthetic import SynthesizeConfig, synthesize
from emeg.tokenizers.braintokenizer import BrainTokenizer, normalise_signal
from emeg.training import (
    PlanConfig,
    PretrainConfig,
    TokenizeConfig,
    TrainTokenizerConfig,
    plan_training,
    pretrain,
    tokenize,
    train_tokenizer,
)

IMPLANTED = {"devices": ("seeg", "ecog"), "imagery_device": "seeg", "devices_per_subject": 1, "n_subjects": 5}
CAPPED = {"devices": ("standard19",), "imagery_device": "standard19", "devices_per_subject": 0, "n_subjects": 3}
SIX_TYPES = {"intracranial": True}
PAGE = ROOT / "docs/how-to/intracranial.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Both archives, and a store with both."""
    folder = tmp_path_factory.mktemp("intracranial")
    for name, devices in (("implanted", IMPLANTED), ("capped", CAPPED)):
        archive = SynthesizeConfig(
            out=str(folder / name), n_trials=12, imagery_s=3.0, rest_s=0.5, short_s=22.0, workers=1, seed=1, **devices
        )
        synthesize(archive)
        ingest(IngestConfig(archive=archive.out, root=str(folder / "store"), workers=0))
    return folder


def recordings(folder: Path, device: str) -> list:
    store = Store.open(folder / "store")
    rows = sorted(read_catalog(store), key=lambda row: row.subject)
    return [(row, open_recording(store, row.recording)) for row in rows if row.device == f"simulated-{device}"]


def test_every_recording_is_ready_and_every_subject_has_other_electrodes(folder):
    rows = read_catalog(Store.open(folder / "store"))
    assert {row.modality for row in rows} == {"ieeg", "eeg"}
    assert len(rows) == 5 + 5 + 3
    seeg = recordings(folder, "seeg")
    assert len({row.layout for row, _ in seeg}) == 5
    assert all(set(recording.sensors.types) == {SensorType.SEEG} for _, recording in seeg)
    regions = [set(sensor_regions(recording.sensors)) for _, recording in seeg]
    assert len(set.union(*regions)) > 6
    assert any(one != regions[0] for one in regions)


def test_the_guide_prints_the_regions(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    row, recording = recordings(folder, "seeg")[0]
    (code,) = python_of(PAGE)
    exec(compile(code, "guide", "exec"), {"name": row.recording})
    assert capsys.readouterr().out.count("'") == 2 * len(recording.sensors)


def test_positions_of_both_coordinate_systems_are_those_of_the_brain(folder):
    for row, recording in recordings(folder, "ecog") + recordings(folder, "seeg"):
        stem = f"{row.subject}_acq-{row.acquisition}_space-*_electrodes.tsv"
        (table,) = (folder / "implanted" / row.subject / "ieeg").glob(stem)
        is_acpc = "ACPC" in table.name
        assert is_acpc == (int(row.subject[-1]) % 2 == 0)
        assert any("ACPC" in note for note in row.notes) == is_acpc
        with table.open(newline="") as file:
            stated = {one["name"]: [float(one[x]) for x in "xyz"] for one in csv.DictReader(file, delimiter="\t")}
        found = dict(zip(recording.sensors.names, recording.sensors.positions, strict=True))
        distance = [np.linalg.norm(found[n] - np.array(stated[n]) * (1 if is_acpc else 1e-3)) for n in found]
        assert max(distance) < (0.015 if is_acpc else 1e-6)
        if is_acpc:
            assert max(distance) > 0.003


def test_imagery_of_a_hand_lowers_mu_near_the_opposite_motor_cortex(folder):
    """The planted effect, measured without the package: power at 7 to 14 Hz of each side's motor electrode."""
    store = Store.open(folder / "store")
    ratios = []
    for row, recording in recordings(folder, "seeg"):
        signal = recording.read(0, recording.n_samples)
        power = np.abs(mne.filter.filter_data(signal.astype(float), 256.0, 7.0, 14.0, verbose="error")) ** 2
        names = np.array(recording.sensors.names)
        usable = ~np.isin(names, row.bad_channels)
        of = {}
        for event in read_events(store, row.recording):
            start = round((event.onset_s + 0.7) * 256)
            for side in "LR":
                own = np.char.startswith(names, f"{side}M") & usable
                of.setdefault((event.trial_type[0].upper(), side), []).append(power[own, start : start + 512].mean())
        across = np.mean(of["L", "R"]) * np.mean(of["R", "L"])
        same = np.mean(of["L", "L"]) * np.mean(of["R", "R"])
        ratios.append(across / same)
    assert np.median(ratios) < 0.7


def errors_of_the_public_validator(folder: Path) -> list[dict[str, object]]:
    program = Path(sys.executable).with_name("bids-validator-deno")
    if not program.exists():
        pytest.skip("bids-validator-deno is not installed (it is in the dev extra)")
    done = subprocess.run(
        [program, folder, "--format", "json"], capture_output=True, text=True, check=False, timeout=120
    )
    if not done.stdout.startswith("{"):
        pytest.skip(f"the validator did not run: {done.stderr[-300:]}")
    issues = json.loads(done.stdout)["issues"]["issues"]
    return [issue for issue in issues if issue["severity"] == "error"]


def test_archive_and_export_are_bids_and_equal_the_store(folder):
    export_bids(
        ExportBidsConfig(root=str(folder / "store"), out=str(folder / "bids"), where="modality = 'ieeg' and run = ''")
    )
    assert errors_of_the_public_validator(folder / "implanted") == []
    assert errors_of_the_public_validator(folder / "bids") == []
    row, recording = recordings(folder, "ecog")[0]
    (file,) = (folder / "bids").glob(f"{row.subject}/ieeg/*acq-ecog*_ieeg.vhdr")
    raw = mne.io.read_raw_brainvision(file, verbose="error")
    assert raw.ch_names == list(recording.sensors.names)
    np.testing.assert_allclose(raw.get_data()[:, :512], recording.read(0, 512), atol=1e-9)
    mne_bids = pytest.importorskip("mne_bids")
    path = mne_bids.get_bids_path_from_fname(file, check=False)
    again = mne_bids.read_raw_bids(path, verbose="error")
    assert set(again.get_channel_types()) == {"ecog"}
    positions = again.get_montage().get_positions()
    assert positions["coord_frame"] == "mni_tal"
    np.testing.assert_allclose(
        [positions["ch_pos"][name] for name in recording.sensors.names], recording.sensors.positions, atol=1e-6
    )


def test_from_corpus_to_report_by_the_same_verbs(folder):
    torch.set_num_threads(1)
    root = str(folder / "store")
    made = shard(ShardConfig(root=root, held_out=0.4, validation=0.2))
    corpus = Corpus.open(Store.open(root))
    assert corpus.has_intracranial
    assert set(corpus.column("modality")) == {"eeg", "ieeg"}
    planned = plan_training(PlanConfig(root=root, recipe="braintokenizer-nano"))
    network = BrainTokenizer(find_plugin("tokenizer", "braintokenizer").presets["nano"].model_copy(update=SIX_TYPES))
    assert planned.parameters_m == pytest.approx(sum(p.numel() for p in network.parameters()) / 1e6)
    training = {"root": root, "launched": False, "device": "cpu", "tracking": "none"}
    sampling = SamplingConfig(budget_channel_seconds=200, crop_s=2.0, max_channels=16)
    tokenizer = train_tokenizer(
        TrainTokenizerConfig(
            steps=3,
            ramp_steps=2,
            sampling=sampling,
            overrides={**SMALL, "regions": True, "hidden_by": "region"},
            **training,
        )
    )
    tokenize(TokenizeConfig(root=root, device="cpu"))
    overrides = {"lm_dim": 32, "lm_head": 4, "lm_depth": 2}
    model = pretrain(PretrainConfig(steps=3, overrides=overrides, **training)).model
    network = BrainOmni.from_pretrained(folder / "store" / "models" / model)
    assert network.tokenizer.config.intracranial
    assert tokenizer.model != model

    # held-out subjects have other electrodes and need no other parameters
    unseen = {name for name, split in corpus.subjects.items() if split == "held_out"}
    for row, recording in recordings(folder, "seeg") + recordings(folder, "ecog"):
        if f"{row.dataset}/{row.subject}" in unseen:
            sensors = recording.sensors
            x = torch.from_numpy(recording.read(0, 512))[None]
            types = torch.from_numpy(sensors.types.astype(np.int64))[None]
            pos = torch.from_numpy(positions_with_regions(sensors))[None]
            assert torch.isfinite(network.embed(normalise_signal(x, types), pos, types)).all()

    (folder / "hand.yaml").write_text(files_of(PAGE)["implanted-hand.yaml"])
    result = evaluate(
        EvaluateConfig(
            root=root,
            tasks=(str(folder / "hand.yaml"),),
            seeds=(0,),
            rivals=("chance",),
            budget=1,
            probes=False,
            permuted_labels=False,
            threads=1,
            device="cpu",
        )
    )
    figures = json.loads((folder / "store" / "evaluations" / result.evaluation / "figures.json").read_text())
    assert "within_subject_blocks" in json.dumps(figures)
    page = report(ReportConfig(root=root, evaluation=result.evaluation))
    assert Path(page.path).stat().st_size > 1000
    assert made.n_segments == len(corpus)


def test_regions_are_named_once():
    assert len(set(REGIONS)) == len(REGIONS) == 21
