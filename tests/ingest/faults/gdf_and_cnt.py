"""The good recording in formats that no library writes: GDF 2.10 and Neuroscan CNT, by their descriptions."""

import struct
from functools import cache

import numpy as np
from tests.ingest.faults.intact import LABELS, NAMES, ONSETS_S, SFREQ, truth

STEP_UV = 0.01
"""Value of one step, µV."""


def _steps(dtype: str) -> bytes:
    return np.rint(truth().T / (STEP_UV * 1e-6)).astype(dtype).tobytes()


@cache
def gdf() -> bytes:
    """Return the recording as GDF 2.10, one record per sample, int16, with an event table of mode 1."""
    n, n_samples = len(NAMES), truth().shape[1]
    head = b"GDF 2.10" + b"X X".ljust(66) + bytes(14 + 64 + 16 + 16)  # patient, habits, recording, location, dates
    head += struct.pack("<H", 1 + n) + bytes(50)  # length of the header in blocks of 256 bytes
    head += struct.pack("<qIIHH", n_samples, 1, round(SFREQ), n, 0)
    fields = [
        b"".join(name.encode().ljust(16) for name in NAMES),
        bytes(80 * n),  # transducers
        b"uV    " * n,
        np.full(n, 4275, "<u2").tobytes(),
        *(np.full(n, value, "<f8").tobytes() for value in (-32768 * STEP_UV, 32767 * STEP_UV, -32768.0, 32767.0)),
        bytes(68 * n),
        *(np.full(n, value, "<f4").tobytes() for value in (80.0, 0.1, 50.0)),  # low-pass, high-pass, notch, Hz
        np.full(n, 1, "<i4").tobytes(),  # samples in a record
        np.full(n, 3, "<i4").tobytes(),  # int16
        bytes(32 * n),
    ]
    channels = b"".join(fields)
    assert (len(head), len(channels)) == (256, 256 * n)
    onsets = [round(onset * SFREQ) + 1 for onset in ONSETS_S]
    kinds = [0x300 + 1 + LABELS.index(label) for label in LABELS]
    events = bytes([1]) + len(onsets).to_bytes(3, "little") + struct.pack("<f", SFREQ)
    events += struct.pack(f"<{len(onsets)}I", *onsets) + struct.pack(f"<{len(kinds)}H", *kinds)
    return head + channels + _steps("<i2") + events


@cache
def cnt() -> bytes:
    """Return the recording as Neuroscan CNT with 32-bit samples and an event table of type 2."""
    n, n_samples = len(NAMES), truth().shape[1]
    head = bytearray(900 + 75 * n)
    head[:12] = b"Version 3.0\0"
    head[225:235], head[235:247] = b"01/02/20\0\0", b"10:11:12\0\0\0\0"
    struct.pack_into("<H", head, 370, n)
    struct.pack_into("<H", head, 376, round(SFREQ))
    struct.pack_into("<I", head, 864, n_samples)
    table = len(head) + 4 * n * n_samples
    struct.pack_into("<I", head, 886, table)
    for i, name in enumerate(NAMES):
        at = 900 + 75 * i
        head[at : at + len(name)] = name.encode()
        struct.pack_into("<f", head, at + 59, 204.8 * STEP_UV)  # sensitivity, µV for 204.8 steps
        struct.pack_into("<f", head, at + 71, 1.0)  # calibration
    events = b"".join(
        struct.pack(
            "<HBBihhfBBB", 1 + LABELS.index(label), 0, 0, len(head) + 4 * n * round(onset * SFREQ), 0, 0, 0, 0, 0, 0
        )
        for onset, label in zip(ONSETS_S, LABELS, strict=True)
    )
    return bytes(head) + _steps("<i4") + struct.pack("<BII", 2, len(events), 0) + events
