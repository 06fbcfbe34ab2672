"""Sidecars with random damage are read, or refused with a next action; no other outcome occurs."""

import json
import random

import mne
import numpy as np
import pytest
from tests.ingest.tables.test_sidecars import read

from emeg.errors import RecordingError
from emeg.ingest.tables.channels import apply_channels
from emeg.ingest.tables.contradictions import compare
from emeg.ingest.tables.electrodes import apply_electrodes
from emeg.ingest.tables.events import find_events

NAMES = ["Fp1", "Fp2", "Fz", "C3", "Cz", "EOG 1", "ECG", "TRIG"]
TYPES = [*["EEG"] * 5, "EOG", "ECG", "TRIG"]
SYSTEM = {
    "EEGCoordinateSystem": "CTF",
    "EEGCoordinateUnits": "mm",
    "AnatomicalLandmarkCoordinates": {"NAS": [0, 100, 0], "LPA": [-70, 0, 0], "RPA": [70, 0, 0]},
}
STATED = {"PowerLineFrequency": 50, "SamplingFrequency": 256, "EEGChannelCount": 5, "RecordingDuration": 10}
SOUND = {
    "json": json.dumps(STATED | {"SoftwareFilters": {"low pass": {"cutoff": "40"}}}),
    "coordsystem": json.dumps(SYSTEM),
    "channels": "name\ttype\tunits\tstatus\n"
    + "".join(f"{name}\t{kind}\tuV\tgood\n" for name, kind in zip(NAMES, TYPES, strict=True)),
    "electrodes": "name\tx\ty\tz\n"
    + "".join(f"{n}\t{10 * i - 20}\t{7 * i}\t{80 - i}\n" for i, n in enumerate(NAMES[:5])),
    "events": "onset\tduration\ttrial_type\tvalue\n" + "".join(f"{1.1 * i}\t0.5\tgo\t{i % 3}\n" for i in range(1, 9)),
}
PIECES = (
    *(
        "n/a",
        "",
        "\t",
        "\n",
        "-1",
        "1e400",
        "nan",
        "inf",
        "0",
        "{}",
        "[]",
        "null",
        "true",
        '"',
        "1,5",
        "Fp1",
        "bad",
        "mm",
    ),
    *("\u00b5V", "9" * 20, "BAD x", "[1,2]", '{"a":1}', "TRIG", "MEGMAG", "SEEG", "\xff", "\0"),
)


def damaged(text, rng):
    """Replace cells, insert and cut pieces, one to four times."""
    data = bytearray(text.encode())
    for _ in range(rng.randint(1, 4)):
        at, piece = rng.randrange(len(data) + 1), rng.choice(PIECES).encode("latin-1")
        what = rng.randrange(4)
        if what == 0:
            data[at : at + rng.randint(0, 6)] = piece
        elif what == 1:
            del data[at : at + rng.randint(1, 12)]
        elif what == 2 and data:
            data[at % len(data)] = rng.randrange(256)
        else:
            cells = [cell for cell in bytes(data).replace(b"\n", b"\t").replace(b",", b"\t").split(b"\t") if cell]
            data = bytearray(bytes(data).replace(rng.choice(cells or [b"?"]), piece, rng.randint(1, 3)))
    return bytes(data)


@pytest.mark.parametrize("seed", range(60))
def test_damaged_sidecars_are_read_or_refused(tmp_path, seed):
    rng = random.Random(seed)
    sidecars = {kind: text.encode() for kind, text in SOUND.items() if rng.random() < 0.8}
    for kind in rng.sample(sorted(sidecars), min(2, len(sidecars))):
        sidecars[kind] = damaged(SOUND[kind], rng)
    raw = mne.io.RawArray(np.zeros((8, 2560)), mne.create_info(NAMES, 256.0, "eeg"), verbose="ERROR")
    if seed % 3 == 0:
        raw.set_eeg_reference(projection=True, verbose="ERROR")
    refusal = None
    try:
        found = read(tmp_path, **sidecars)
        apply_channels(raw, found)
        apply_electrodes(raw, found)
        events = find_events(raw, found).events
        compare(raw, found, sfreq=256.0, n_times=2560)
    except RecordingError as error:
        refusal = error
    if refusal is not None:
        assert refusal.next_action
        return
    assert all(0.0 <= event.onset_s < 10.0 and 0.0 <= event.duration_s < np.inf for event in events)
    assert 0.0 <= found.mains < np.inf
    assert 0.0 <= found.lowpass < np.inf
