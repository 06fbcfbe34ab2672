"""Small good recordings in every format that can be written, with their true signals and events.

Twelve seconds of 19 electrodes of the 10-20 system at 200 Hz, 10 µV, no mains noise: smooth sources under the scalp
and a little independent noise at each electrode, so that the signal identifies the channel. Eight events. Seeded.
"""

import tempfile
from functools import cache
from pathlib import Path

import mne
import numpy as np
import scipy.io
from numpy.typing import NDArray

NAMES = (
    *("Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz"),
    *("C4", "T8", "P7", "P3", "Pz", "P4", "P8", "O1", "O2"),
)
SFREQ = 200.0
SECONDS = 12
ONSETS_S = (1.0, 2.005, 3.25, 4.5, 5.755, 7.0, 8.5, 10.25)
LABELS = ("left", "right") * 4
STEM = "sub-01_task-rest_eeg"
FOLDER = "sub-01/eeg"

N_COILS = 64
"""Magnetometers of the small helmet."""


@cache
def places() -> dict[str, NDArray[np.float64]]:
    """Electrode positions in head coordinates, metres."""
    info = mne.create_info(list(NAMES), SFREQ, "eeg")
    info.set_montage("colin27_1005")
    return {channel["ch_name"]: channel["loc"][:3].copy() for channel in info["chs"]}


@cache
def truth(seed: int = 0, n_samples: int = round(SECONDS * SFREQ)) -> NDArray[np.float64]:
    """Volts, shape (19, samples): 24 sources with 1/f spectra, spread over 4 cm, and a tenth of own noise."""
    rng = np.random.default_rng(seed)
    points = np.array([places()[name] for name in NAMES])
    sources = rng.standard_normal((24, 3))
    sources *= 0.08 / np.linalg.norm(sources, axis=1, keepdims=True)
    sources[:, 2] = np.abs(sources[:, 2])
    gain = np.exp(-((np.linalg.norm(points[:, None] - sources[None], axis=2) / 0.04) ** 2))
    spectrum = rng.standard_normal((24, n_samples // 2 + 1)) + 1j * rng.standard_normal((24, n_samples // 2 + 1))
    spectrum /= np.maximum(np.arange(n_samples // 2 + 1), 20) ** 0.7
    spectrum[:, 0] = 0.0
    signal = gain @ np.fft.irfft(spectrum, n_samples)
    signal /= signal.std(axis=1, keepdims=True)
    return 1e-5 * (signal + 0.3 * rng.standard_normal(signal.shape))


def raw_eeg(
    data: NDArray[np.float64] | None = None,
    names: tuple[str, ...] = NAMES,
    *,
    sfreq: float = SFREQ,
    events: bool = True,
) -> mne.io.RawArray:
    """Build a recording with annotations; `data` in volts."""
    values = truth() if data is None else data
    raw = mne.io.RawArray(values.copy(), mne.create_info(list(names), SFREQ, "eeg"), verbose="ERROR")
    if events:
        raw.set_annotations(mne.Annotations(ONSETS_S, [0.0] * len(ONSETS_S), LABELS))
    return raw


def raw_meg(data: NDArray[np.float64] | None = None) -> mne.io.RawArray:
    """Build a helmet of 64 magnetometers on a half sphere of 11 cm, longer from front to back; picotesla."""
    rng = np.random.default_rng(3)
    info = mne.create_info([f"MEG{i:03d}" for i in range(N_COILS)], SFREQ, "mag")
    for place, channel in zip(helmet(), info["chs"], strict=True):
        normal = place / np.linalg.norm(place)
        across = np.cross(normal, [0.3, 0.5, 0.8])
        across /= np.linalg.norm(across)
        channel["coil_type"] = 3024
        channel["coord_frame"] = 1
        channel["loc"][:] = np.concatenate([place, across, np.cross(normal, across), normal])
    if data is None:
        common = rng.standard_normal((12, SECONDS * round(SFREQ)))
        mixing = rng.standard_normal((3, 12))
        data = 3e-13 * (helmet() / 0.11 @ mixing @ common + rng.standard_normal((N_COILS, common.shape[1])))
    raw = mne.io.RawArray(data, info, verbose="ERROR")
    raw.set_annotations(mne.Annotations(ONSETS_S, [0.0] * len(ONSETS_S), LABELS))
    return raw


@cache
def helmet() -> NDArray[np.float64]:
    """Return positions of the coils, shape (64, 3): a helmet, symmetric about the median plane and open below."""
    half = N_COILS // 2
    height = 0.11 * (0.02 + 0.96 * (np.arange(half) + 0.5) / half)
    angle = np.arange(half) * 2.399963
    radius = np.sqrt(0.11**2 - height**2)
    right = np.column_stack([np.abs(radius * np.cos(angle)) * 0.9, 1.1 * radius * np.sin(angle), height])
    right[:, 0] += 0.004
    return np.concatenate([right, right * [-1.0, 1.0, 1.0]])


def write(raw: mne.io.RawArray, path: Path, **options: object) -> None:
    """Write a recording in the format of its extension; ``.set`` with ``fdt=True`` in two files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith((".fif", ".fif.gz")):
        raw.save(path, verbose="ERROR", **options)
    elif options.pop("fdt", False):
        write_set(path, set_fields(raw), fdt=path.with_suffix(".fdt").name)
    else:
        extra = {"physical_range": "channelwise"} if path.suffix in {".edf", ".bdf"} else {}
        mne.export.export_raw(path, raw, verbose="ERROR", **extra, **options)


def set_fields(raw: mne.io.RawArray) -> dict[str, object]:
    """List the fields of an EEGLAB structure, without positions, as EEGLAB itself keeps them."""
    sfreq = raw.info["sfreq"]
    return {
        "setname": "good",
        "nbchan": float(len(raw.ch_names)),
        "trials": 1.0,
        "pnts": float(raw.n_times),
        "srate": float(sfreq),
        "xmin": 0.0,
        "xmax": (raw.n_times - 1) / sfreq,
        "data": (raw.get_data() * 1e6).astype(np.float32),
        "icawinv": np.empty((0, 0)),
        "icasphere": np.empty((0, 0)),
        "icaweights": np.empty((0, 0)),
        "chanlocs": np.array([(name,) for name in raw.ch_names], dtype=[("labels", object)]),
        "event": np.array(
            [(text, onset * sfreq + 1.0, 0.0) for onset, text in zip(ONSETS_S, LABELS, strict=True)],
            dtype=[("type", object), ("latency", object), ("duration", object)],
        ),
        "ref": "common",
    }


def write_set(path: Path, fields: dict[str, object], fdt: str = "") -> None:
    """Write an EEGLAB set; with `fdt`, the samples beside it in a file of that name."""
    fields = dict(fields)
    path.parent.mkdir(parents=True, exist_ok=True)
    if fdt:
        (path.parent / fdt).write_bytes(np.asarray(fields["data"], "<f4").tobytes(order="F"))
        fields["data"] = fdt
    scipy.io.savemat(path, {"EEG": fields}, appendmat=False, oned_as="row")


@cache
def good(kind: str) -> dict[str, bytes]:
    """Give the files of a good ``edf``, ``bdf``, ``vhdr``, ``set``, ``fdt``, ``fif`` or ``meg``, by extension."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        extension = {"fdt": "set", "meg": "fif"}.get(kind, kind)
        path = place / f"{STEM}.{extension}"
        write(raw_meg() if kind == "meg" else raw_eeg(), path, **({"fdt": True} if kind == "fdt" else {}))
        return {file.suffix: file.read_bytes() for file in sorted(place.iterdir())}


def put(archive: Path, kind: str, *, stem: str = STEM, folder: str = FOLDER) -> Path:
    """Put a good recording into an archive and return its leading file; names inside follow the stem."""
    extension = {"fdt": "set", "meg": "fif"}.get(kind, kind)
    (archive / folder).mkdir(parents=True, exist_ok=True)
    for suffix, data in good(kind).items():
        if suffix in {".vhdr", ".vmrk"}:
            data = data.replace(STEM.encode(), stem.encode())
        (archive / folder / f"{stem}{suffix}").write_bytes(data)
    return archive / folder / f"{stem}.{extension}"
