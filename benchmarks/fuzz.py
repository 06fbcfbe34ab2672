"""Ingest 2,000 files with seeded damage: each must be ready, or refused with file and cause.

200 each of EDF, FIF (EEG and MEG), BrainVision, EEGLAB SET (one file, and with ``.fdt``), BDF, GDF, Neuroscan CNT, the
``.fdt`` of a set, tables (channels, events, electrodes) and JSON sidecars. They are made from the small good recordings
of the corpus of faults: bytes flipped, blocks cut, doubled, zeroed or exchanged, numbers at their extremes. Every file
goes through the same function as a real one, in a child process with a time limit and a limit of memory, so that a
crash of native code or an endless loop is counted and does not end the run.

``python -m benchmarks.fuzz [--files 2000] [--seed N] [--kinds tsv json …]``
"""

import argparse
import contextlib
import json
import multiprocessing
import multiprocessing.connection
import re
import resource
import shutil
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tests.ingest.faults.gdf_and_cnt import cnt, gdf
from tests.ingest.faults.intact import LABELS, NAMES, ONSETS_S, SFREQ, STEM, good, places

KINDS = ("edf", "fif", "vhdr", "set", "bdf", "gdf", "cnt", "fdt", "tsv", "json")
"""The order is part of the seed: a new kind is added at the end."""

N_FILES = 2000
SEED = 20261125
LIMIT_S = 60.0
"""Wall time for one file; a sound one takes 0.2 s."""
MEMORY_BYTES = 2 * 2**30
"""Address space that a child may take beyond what it has after its imports."""

_NUMBERS = [b"0", b"-1", b"1", b"99999999", b"-9999999", b"1e308", b"nan", b"inf", b"", b"0.0001", b"4294967296", b"x"]
_WORDS = [0, 1, -1, 2**31 - 1, -(2**31), 2**16, 255, 10**9]


def mutated(kind: str, number: int, folder: Path, *, seed: int = SEED) -> Path:
    """Write file `number` of a kind with its companions and return the leading one.

    The same numbers give the same bytes, whatever else is made.
    """
    rng = np.random.default_rng([seed, KINDS.index(kind), number])
    files, target = _sound(kind, number, rng)
    data = files[target]
    for _ in range(int(rng.integers(1, 4))):
        data = _damage(data, kind, rng)
    files[target] = data
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder / target if kind not in {"fdt", "tsv", "json"} else folder / next(iter(files))


def _sound(kind: str, number: int, rng: np.random.Generator) -> tuple[dict[str, bytes], str]:
    """Return a good recording's files by name, its leading file first, and which of them is to be damaged."""
    if kind in {"gdf", "cnt"}:
        return {f"{STEM}.{kind}": gdf() if kind == "gdf" else cnt()}, f"{STEM}.{kind}"
    base = {"fif": ("fif", "meg"), "set": ("set", "fdt"), "tsv": ("edf",), "json": ("edf",)}.get(kind, (kind,))
    files = {f"{STEM}{suffix}": content for suffix, content in good(base[number % len(base)]).items()}
    if kind in {"tsv", "json"}:
        tables = _sidecars()
        named = sorted(name for name in tables if name.endswith(kind))
        return {**files, **tables}, named[number % len(named)]
    suffix = f".{kind}" if kind != "vhdr" or rng.random() < 0.75 else ".vmrk"
    lead = {"fdt": ".set"}.get(kind, f".{kind}")
    return {f"{STEM}{lead}": files.pop(f"{STEM}{lead}"), **files}, f"{STEM}{suffix}"


def _sidecars() -> dict[str, bytes]:
    """Return the sidecars of a good recording by name."""
    stem = STEM.rpartition("_")[0]
    events = zip(ONSETS_S, LABELS, strict=True)
    tables = {
        f"{stem}_channels.tsv": [("name", "type", "units", "status"), *((n, "EEG", "uV", "good") for n in NAMES)],
        f"{stem}_events.tsv": [("onset", "duration", "trial_type"), *((str(t), "0.5", label) for t, label in events)],
        f"{stem}_electrodes.tsv": [
            ("name", "x", "y", "z"),
            *((name, *(f"{value:.5f}" for value in position)) for name, position in places().items()),
        ],
    }
    objects = {
        f"{STEM}.json": {
            "PowerLineFrequency": 50,
            "SamplingFrequency": SFREQ,
            "RecordingDuration": 12,
            "EEGReference": "Cz",
        },
        f"{stem}_coordsystem.json": {"EEGCoordinateSystem": "CapTrak", "EEGCoordinateUnits": "m"},
    }
    texts = {name: "".join("\t".join(row) + "\n" for row in rows) for name, rows in tables.items()}
    return {name: text.encode() for name, text in {**texts, **{n: json.dumps(o) for n, o in objects.items()}}.items()}


_HEADERS = {"edf": 256 * 21, "bdf": 256 * 21, "gdf": 256 * 21, "cnt": 900 + 75 * 20, "set": 20_000, "fif": 6_000}
"""Bytes from the beginning in which damage is done; of other kinds the whole file."""

_TEXT_KINDS = frozenset({"edf", "bdf", "vhdr", "tsv", "json"})
"""Kinds whose numbers are text."""


def _damage(data: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """Damage a header once, in one of nine ways."""
    end = max(1, min(len(data), _HEADERS.get(kind, len(data))))
    at = int(rng.integers(0, end))
    length = int(rng.choice([1, 2, 4, 8, 16, 80, 256]))
    to = int(rng.integers(0, end))
    way = int(rng.integers(0, 9))
    if way == 0:
        return _flip(data, end, rng)
    if way == 1:
        return data[:at] if rng.random() < 0.5 else data[: len(data) - at]
    if way == 2:
        return data[:at] + data[at + length :]
    if way == 3:
        return data[:at] + data[at : at + length] + data[at:]
    if way == 4:
        return data[:at] + bytes([int(rng.choice([0, 32, 255]))]) * length + data[at + length :]
    if way == 5:
        first, second = sorted((at, to))
        a, b = data[first : first + length], data[second : second + length]
        return data[:first] + b + data[first + length : second] + a + data[second + length :]
    if way == 6:
        return data[:at] + rng.bytes(length) + data[at + length :]
    return _number(data, kind, end, rng)


def _flip(data: bytes, end: int, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for at in rng.integers(0, end, int(rng.integers(1, 33))):
        if at < len(changed):
            changed[at] ^= 1 << int(rng.integers(0, 8))
    return bytes(changed)


def _number(data: bytes, kind: str, end: int, rng: np.random.Generator) -> bytes:
    """Set a number that the header holds to an extreme: as text, as a FIF tag's word, as a MATLAB number."""
    if kind in _TEXT_KINDS:
        found = list(re.finditer(rb"-?\d+(?:\.\d+)?", data[:end]))
        if not found:
            return data
        match = found[int(rng.integers(0, len(found)))]
        text = _NUMBERS[int(rng.integers(0, len(_NUMBERS)))]
        if kind in {"edf", "bdf"}:
            text = text.ljust(len(match[0]))[: max(len(match[0]), 1)]
        return data[: match.start()] + text + data[match.end() :]
    if kind == "fif":
        return _tag(data, rng)
    at = 8 * int(rng.integers(0, max(1, min(end, len(data)) // 8)))
    if rng.random() < 0.5:
        word = struct.pack("<i", int(rng.choice(_WORDS)))
        return data[:at] + word + data[at + 4 :]
    value = float(rng.choice([0.0, -1.0, 1e9, 1e308, float("nan"), float("inf"), 0.5, 3.0]))
    return data[:at] + struct.pack("<d", value) + data[at + 8 :]


def _tag(data: bytes, rng: np.random.Generator) -> bytes:
    """Change kind, type, size, next or the first word of the content of one tag."""
    places, position = [], 0
    while position + 16 <= len(data) and len(places) < 4000:
        places.append(position)
        length, following = struct.unpack(">ii", data[position + 8 : position + 16])
        position = following if following > 0 else position + 16 + max(0, length)
        if following < 0:
            break
    at = places[int(rng.integers(0, len(places)))] + 4 * int(rng.integers(0, 6))
    return data[:at] + struct.pack(">i", int(rng.choice(_WORDS))) + data[at + 4 :]


def unexplained(reason: str, path: str) -> str:
    """Return what a reason lacks: the file's name, or a cause in words; empty when nothing.

    A reason may name a sidecar instead of the recording.
    """
    if Path(path).stem.rpartition("_")[0] not in reason:
        return "does not name the file"
    cause = reason.partition(": ")[2] or reason
    if len(cause.split()) < 3 or re.search(r"^\w*(Error|Exception)$", cause):
        return "does not name a cause"
    if re.search(r"Traceback|File \"|, line \d+, in |x[0-9a-f]{16}/", reason):
        return "holds a traceback"
    return ""


@dataclass
class Tally:
    """States and reasons of the files."""

    states: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    peak_kib: int = 0
    slowest_s: float = 0.0


def _serve(connection: multiprocessing.connection.Connection) -> None:
    """Ingest archives in a child process until none is left; limits are set after the imports."""
    from emeg.ingest import IngestConfig, ingest_recording, list_sources
    from emeg.store import Store

    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_BYTES, size + MEMORY_BYTES))
    while (archive := connection.recv()) is not None:
        root = f"{archive}-store"
        try:
            config = IngestConfig(archive=archive, root=root, workers=0)
            Store.open(root, create=True)
            [source] = list_sources(config)
            outcome = ingest_recording(source, config)
            answer = (outcome.state, outcome.reason)
        except BaseException as error:  # noqa: BLE001 - whatever escapes is what the benchmark counts
            answer = ("crashes", f"{type(error).__name__}: {error}")
        shutil.rmtree(root, ignore_errors=True)
        connection.send((*answer, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


class Child:
    """A child process that ingests archives one after another and may be lost."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other,), daemon=True)
        self.process.start()
        other.close()

    def ingest(self, archive: Path, *, limit_s: float) -> tuple[str, str, int]:
        """Return state, reason and peak resident memory (KiB); ``hangs`` and ``crashes`` end the child."""
        try:
            self.connection.send(str(archive))
            if self.connection.poll(limit_s):
                state, reason, peak = self.connection.recv()
                return state, reason, peak
        except (EOFError, ConnectionError):
            self.process.join()
            return "crashes", f"the process died with {self.process.exitcode}", 0
        return "hangs", f"no answer within {limit_s:g} s", 0

    def end(self) -> None:
        """End the child, by force where it does not answer."""
        with contextlib.suppress(OSError):
            self.connection.send(None)
        self.process.join(1.0)
        self.process.kill()
        self.process.join()


def run(files: Iterator[tuple[str, int, Path]]) -> Tally:
    """Ingest files one by one and count."""
    tally, child = Tally(), Child()
    first = True
    for kind, number, path in files:
        began = time.perf_counter()
        state, reason, peak = child.ingest(path.parent, limit_s=LIMIT_S * (3 if first else 1))
        if not first:
            tally.slowest_s = max(tally.slowest_s, time.perf_counter() - began)
        first = False
        tally.states[state] += 1
        tally.peak_kib = max(tally.peak_kib, peak)
        tally.reasons.append(f"{kind} {number} {state}: {reason}")
        lack = unexplained(reason, path.name) if state == "quarantined" else ""
        if lack:
            tally.states["unexplained"] += 1
        if lack or state in {"crashes", "hangs"}:
            tally.failures.append(f"{kind} {number}: {state} {lack} {reason}")
        if state in {"crashes", "hangs"}:
            child.end()
            child, first = Child(), True
        shutil.rmtree(path.parent)
    child.end()
    return tally


def made(n_files: int, folder: Path, seed: int, kinds: Sequence[str] = KINDS) -> Iterator[tuple[str, int, Path]]:
    """Yield the files one after the other, kinds in turn."""
    for i in range(n_files):
        kind, number = kinds[i % len(kinds)], i // len(kinds)
        yield kind, number, mutated(kind, number, folder / f"{kind}-{number}", seed=seed)


def main() -> None:
    """Measure and print; failures above the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=N_FILES)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--reasons", type=Path, help="file for the state and reason of every file")
    arguments = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        tally = run(made(arguments.files, Path(folder), arguments.seed, arguments.kinds))
    if arguments.reasons:
        arguments.reasons.write_text("\n".join(tally.reasons) + "\n")
    for failure in tally.failures:
        print(failure)
    result = {"benchmark": "fuzz", "files": arguments.files, "seed": arguments.seed}
    result |= {key: tally.states[key] for key in ("crashes", "hangs", "unexplained", "ready", "quarantined")}
    result |= {
        "peak_mib": round(tally.peak_kib / 1024),
        "seconds_slowest": round(tally.slowest_s, 2),
        "seconds": round(time.perf_counter() - began, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
