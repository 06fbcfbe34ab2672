"""Evaluations over tasks with planted figures, and the recordings behind them, for tests of the page."""

import json

import numpy as np
import pyarrow as pa

from emeg.evaluation.protocol.products import GridSummary, write_grid
from emeg.evaluation.protocol.rows import PREDICTIONS, RESULTS, SPLITS
from emeg.sensors import Sensors
from emeg.store import CatalogRow, RecordingAttributes, Store, publish_row, write_recording

SUBJECTS = [f"d/{k}" for k in range(6)]
TASKS = ("t1", "<t2>")
CHANNELS, SECONDS, LENGTH_S, SFREQ = 12, 16, 2.0, 256.0
N_WINDOWS = round(SECONDS / LENGTH_S)
PLANTED = "E3"
"""Channel whose 10 Hz rhythm is stronger in windows of the second class, by `PLANTED_DB`."""
PLANTED_DB = 20.0


def score(task, model, mean, *, weights="", examples=None, title=None, labels="real"):
    read_out = "logistic" if weights else ""
    key = {"model": model, "weights": weights, "examples_per_class": examples, "read_out": read_out, "labels": labels}
    return {
        "task": task,
        "key": key,
        "title": title or model,
        "metric": "balanced_accuracy",
        "mean": mean,
        "sd": 0.01,
        "n_runs": 3,
        "subject_metric": "balanced_accuracy",
        "subjects": dict.fromkeys(SUBJECTS, mean),
        "interval": {"mean": mean, "low": mean - 0.05, "high": mean + 0.05, "n_subjects": 6},
        "by_subject": None,
    }


def task(name, **changes):
    return {
        "id": name,
        "title": f"Task {name}",
        "kind": "classification",
        "metric": "balanced_accuracy",
        "split_rule": "cross_subject",
        "definition": {"id": name, "window": {"length_s": LENGTH_S}},
        "classes": ("a", "b"),
        "datasets": ("d",),
        "devices": ("cap",),
        "n_subjects": 6,
        "n_recordings": 6,
        "n_windows": 6 * N_WINDOWS,
        "windows_per_class": {"a": 24, "b": 24},
        "n_channels": 8,
        "left_out": {},
        "n_seen": 0,
        "n_folds": 3,
        "splits": {"0": "abc"},
        "notices": (),
        "published": {},
    } | changes


def grid(model, mean, *, tasks=TASKS, **changes):
    scores = []
    for name in tasks:
        scores += [score(name, "chance", 0.5), score(name, "band_power", 0.61)]
        scores += [score(name, model, mean, weights="pretrained", title="BrainOmni, logistic")]
        scores += [
            score(name, model, mean - 0.1 / n, weights="pretrained", examples=n, title="BrainOmni, logistic")
            for n in (1, 5)
        ]
    own, rival = scores[2]["key"], scores[1]["key"]
    comparison = {
        "task": tasks[0],
        "key": own,
        "rival": rival,
        "question": "best_rival",
        "difference": {"mean": mean - 0.61, "low": mean - 0.7, "high": mean - 0.5, "n_subjects": 6},
        "p": 0.01,
        "p_corrected": 0.02,
        "passed": mean > 0.61,
    }
    fields = {
        "version": "0",
        "seeds": (0, 1, 2),
        "split_mode": "strict",
        "tasks": [task(name) for name in tasks],
        "scores": scores,
        "comparisons": [comparison],
        "provenance": {"notes": [], "model": model},
    }
    return GridSummary.checked(fields | changes, source="test")


def results(model, mean, tasks=TASKS):
    base = {"kind": "classification", "split_rule": "cross_subject", "labels": "real", "condition": "", "n": 10}
    base |= {"unit": "window", "metric": "balanced_accuracy", "note": "", "setting": "{}", "examples_per_class": None}
    rows = []
    for name in tasks:
        for model_name, weights, value in (("band_power", "", 0.61), (model, "pretrained", mean)):
            own = {"task": name, "model": model_name, "weights": weights, "mode": "", "read_out": ""}
            rows += [
                base | own | {"seed": seed, "fold": 0, "subject": subject, "value": value + 0.01 * seed}
                for seed in (0, 1)
                for subject in SUBJECTS
            ]
    return pa.Table.from_pylist(rows, schema=RESULTS)


def predictions(model, tasks=TASKS, *, wrong=1):
    """Predictions of the network: in every recording the first `wrong` windows of class b are taken for a."""
    rows = []
    for name in tasks:
        for labels in ("real", "permuted"):
            for k, subject in enumerate(SUBJECTS):
                for window in range(N_WINDOWS):
                    label = window % 2 if labels == "real" else 0
                    guess = label if window // 2 >= wrong or not label else 0
                    rows.append(
                        {
                            "task": name, "model": model, "weights": "pretrained", "mode": "", "read_out": "logistic",
                            "labels": labels, "condition": "", "examples_per_class": None, "seed": 0, "fold": 0,
                            "subject": subject, "recording": f"r{k}", "start": round(window * LENGTH_S * SFREQ),
                            "label": float(label), "prediction": [1.0 - guess, float(guess)],
                        }
                    )  # fmt: skip
    return pa.Table.from_pylist(rows, schema=PREDICTIONS)


def checks(passed=True, tasks=TASKS):
    return [
        {"task": name, "name": "subjects_apart", "title": "No subject is on two sides", "passed": passed,
         "stops": True, "found": [] if passed else ["d/0 in train and test"]}
        for name in tasks
    ]  # fmt: skip


def task_score(value):
    return {"mean": value, "subjects": {name: value + 0.01 * k for k, name in enumerate(SUBJECTS)}, "note": ""}


def probes(tasks=TASKS):
    identity = {"name": "subject", "accuracy": 0.9, "chance": 1 / 6, "n_values": 6, "n_windows": 48, "note": ""}
    one = {
        "reason": "", "n_windows": 48, "n_channels": CHANNELS,
        **{name: task_score(0.7) for name in ("intact", "known_subjects", "permuted", "erased")},
        "identity": {"subject": identity}, "subject_after_erasure": identity | {"accuracy": 0.2},
        "variance": {"subject": {"share": 0.4, "null": 0.1, "ratio": 4.0, "p": 0.01}},
        "conditions": {"phase_randomised": task_score(0.55)}, "layers": {"0": task_score(0.5), "1": task_score(0.65)},
        "device_tokens": [
            {"devices": ["cap", "helmet"], "agreement": [0.4, 0.1], "shifted": [0.1, 0.1], "chance": [0.05, 0.05],
             "latent_cosine": 0.8, "n_windows": 12, "n_subjects": 3}
        ],
        "entropy_bits": 3.5, "information_bits": {"subject": 1.25},
    }  # fmt: skip
    return dict.fromkeys(tasks, one)


def publish(store, name, model, mean, *, files=("checks", "probes", "predictions"), tasks=TASKS, **changes):
    """Publish an evaluation; `files` names those that it has besides the figures and results."""
    with store.publishing("evaluations", name) as folder:
        predicted = predictions(model, tasks) if "predictions" in files else PREDICTIONS.empty_table()
        write_grid(folder, grid(model, mean, tasks=tasks, **changes), results(model, mean, tasks), predicted,
                   SPLITS.empty_table())  # fmt: skip
        if "checks" in files:
            (folder / "checks.json").write_text(json.dumps(checks(tasks=tasks)))
        if "probes" in files:
            (folder / "probes.json").write_text(json.dumps(probes(tasks)))


def sensors(prefix: str = "E", kind: int = 0) -> Sensors:
    turn = np.linspace(0, 2 * np.pi, CHANNELS, endpoint=False)
    height = np.where(np.arange(CHANNELS) % 2, 0.03, 0.06)
    positions = (
        np.stack([np.cos(turn), np.sin(turn), np.zeros(CHANNELS)], axis=1) * np.sqrt(0.09**2 - height**2)[:, None]
    )
    positions[:, 2] = height
    return Sensors(
        names=tuple(f"{prefix}{i}" for i in range(CHANNELS)),
        types=np.full(CHANNELS, kind, np.int8),
        units=("V",) * CHANNELS,
        positions=positions,
        orientations=np.zeros((CHANNELS, 3)),
        coils=np.ones(CHANNELS, np.int32),
    )  # fmt: skip


def add_recordings(store: Store, *, kind: int = 0) -> None:
    """Write one recording a subject: noise with a 10 Hz rhythm; class b adds to it at the planted channel.

    Electrodes in the brain (`kind` of 3 and above) have names of their own in every subject.
    """
    time_s = np.arange(round(SECONDS * SFREQ)) / SFREQ
    for k, subject in enumerate(SUBJECTS):
        rng = np.random.default_rng(k)
        caps = sensors("E" if kind < 3 else f"{k}E", kind)
        signal = 1e-6 * rng.standard_normal((CHANNELS, len(time_s))) + 1e-5 * np.sin(2 * np.pi * 10.0 * time_s)
        is_b = (time_s // LENGTH_S).astype(int) % 2 == 1
        signal[int(PLANTED[1:]), is_b] *= 10 ** (PLANTED_DB / 20)
        about = {"dataset": "d", "subject": subject.partition("/")[2], "source": f"s{k}.edf", "version": "0"}
        about |= {"layout": caps.layout_id, "config_hash": "0" * 16}
        attributes = RecordingAttributes.model_validate(about | {"sfreq": SFREQ, "pass_band": (0.1, 96.0)})
        bad = np.zeros((CHANNELS, SECONDS), np.uint8)
        write_recording(store, f"r{k}", signal.astype(np.float32), sensors=caps, attributes=attributes, bad=bad)
        row = about | {"recording": f"r{k}", "modality": "eeg", "n_channels": CHANNELS, "n_eeg": CHANNELS}
        row |= {"n_magnetometers": 0, "n_gradiometers": 0, "sfreq_source": 512.0, "duration_s": float(SECONDS)}
        row |= {"n_events": 0, "pass_band_low": 0.1, "pass_band_high": 96.0, "notches": (), "device": "cap"}
        publish_row(store, CatalogRow.model_validate(row), [])
