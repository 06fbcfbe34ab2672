"""Ingest small archives with the symptoms of public bug reports and compare each with its right result.

The archives lie in ``../shared/cases/ingest``. Each is ingested into a store of its own, and what the store holds is
compared with a figure that does not come from emeg: what MNE-Python reads from the file when it loads it at once, what
the tables beside it state, or a number that is known from how the file was made. The last line is one JSON object;
``right`` and ``wrong`` count archives, and ``failures`` says what is wrong in each.

``python -m benchmarks.field [CASE …]``
"""

import argparse
import csv
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emeg.errors import UserError
from emeg.ingest import IngestConfig, ingest
from emeg.sensors import standard_name
from emeg.store import CatalogRow, Event, Store, open_recording, read_catalog, read_events, read_quarantine

CASES = Path("../shared/cases/ingest")

PAUSE_LIMIT_V = 62e-6
"""Largest value of the recordings with a pause when each side of it is filtered alone, V."""

OTHER_FILTER = 1.1
"""Factor allowed for different treatment of the ends of a stretch. A filter across the pause gives 1160 µV."""

TRIGGERS = {"sub-01": 7, "sub-02": 5, "sub-03": 7, "sub-04": 7}
"""Triggers that the files of `triggers-lost-beside-annotations` contain; 2 of the second file lie in its gap."""

LEAST_CORRELATION = 0.97
"""Of a second of a channel with the same second of the file; filters differ at the edges of the band."""

Check = Callable[["Case"], Iterator[str]]


@dataclass(frozen=True)
class Case:
    """One archive and the store that its ingest made."""

    archive: Path
    root: Path

    @property
    def store(self) -> Store:
        """The store."""
        return Store.open(str(self.root))

    def rows(self, subject: str = "") -> list[CatalogRow]:
        """Return the catalogue's rows, of one subject if named."""
        return [row for row in read_catalog(self.store) if not subject or row.subject == subject]

    def reason(self, subject: str) -> str:
        """Return the reason why a subject's recording was refused, or an empty string."""
        return " ".join(r.reason for r in read_quarantine(self.store) if r.source.startswith(f"{subject}/"))

    def signal(self, row: CatalogRow) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        """Return channel names and the standardised signal, shape (channels, samples), V or T."""
        recording = open_recording(self.store, row.recording)
        return tuple(recording.sensors.names), recording.read(0, recording.n_samples)

    def file(self, subject: str) -> Path:
        """Return the file of a subject's recording."""
        return next(path for path in sorted((self.archive / subject).rglob(f"{subject}_*")) if path.suffix in _LEADS)


_LEADS = {".edf", ".fif", ".vhdr", ".bdf", ".set", ".lay"}


def ingested(archive: Path, root: Path) -> Case:
    """Ingest an archive in this process."""
    ingest(IngestConfig(archive=str(archive), root=str(root), workers=0))
    return Case(archive, root)


def refused(words: Mapping[str, str]) -> Check:
    """Expect that subjects' recordings are refused, or left aside, with a reason that matches a pattern."""

    def check(case: Case) -> Iterator[str]:
        for subject, pattern in words.items():
            reason = case.reason(subject)
            if case.rows(subject):
                yield f"{subject} is ready"
            elif not re.search(pattern, reason.partition(": ")[2], re.IGNORECASE):
                yield f"{subject}: the reason {reason!r} does not say {pattern!r}"

    return check


def rates(case: Case) -> Iterator[str]:
    """Compare the EEG with what MNE reads from the file when only the EEG is asked for and loaded at once."""
    import mne

    rows = case.rows("sub-01")
    if not rows:
        yield f"sub-01 is refused: {case.reason('sub-01')}"
        return
    names, signal_CN = case.signal(rows[0])
    eeg = [row["name"] for row in _table(next(case.archive.rglob("*_channels.tsv"))) if row["type"] == "EEG"]
    raw = mne.io.read_raw_edf(case.file("sub-01"), include=eeg, preload=True, verbose="ERROR")
    raw.resample(256.0, verbose="ERROR").filter(2.0, 30.0, verbose="ERROR")
    ours_CN = mne.filter.filter_data(signal_CN.astype(float), 256.0, 2.0, 30.0, verbose="ERROR")
    if len(names) != len(eeg) or abs(ours_CN.shape[1] - raw.n_times) > 1:
        yield f"{ours_CN.shape} channels and samples, the file has {len(eeg)} of EEG and {raw.n_times}"
        return
    theirs = dict(zip((standard_name(name) or name for name in raw.ch_names), raw.get_data(), strict=True))
    alike = {}
    for name, ours_N in zip(names, ours_CN, strict=True):
        if name not in {*rows[0].bad_channels, *rows[0].interpolated}:
            theirs_N = theirs[standard_name(name) or name]
            seconds = [slice(at, at + 256) for at in range(256, raw.n_times - 512, 256)]
            alike[name] = min(float(np.corrcoef(ours_N[second], theirs_N[second])[0, 1]) for second in seconds)
    if min(alike.values()) < LEAST_CORRELATION:
        least = min(alike, key=alike.__getitem__)
        yield f"correlation with the file falls to {alike[least]:.2f} in a second of {least}"


def measured_places(tables: Mapping[str, str]) -> Check:
    """Expect the positions of an electrodes table in CapTrak's frame, which is the head's, within 0.1 mm."""

    def check(case: Case) -> Iterator[str]:
        for subject, table in tables.items():
            rows = case.rows(subject)
            if len(rows) != 1:
                yield f"{subject}: {len(rows)} recordings; {case.reason(subject)}"
                continue
            sensors = open_recording(case.store, rows[0].recording).sensors
            true = {_bare(row["name"]): [float(row[axis]) for axis in "xyz"] for row in _table(case.archive / table)}
            if len(sensors) != len(true):
                yield f"{subject}: {len(sensors)} channels, the table has {len(true)}; dropped {rows[0].dropped}"
            found = dict(zip(map(_bare, sensors.names), sensors.positions, strict=True))
            far = max((float(np.linalg.norm(found[n] - true[n])) for n in found.keys() & true.keys()), default=np.inf)
            if far > 1e-4:
                yield f"{subject}: positions are {1e3 * far:.1f} mm from the table's"

    return check


def spelling(case: Case) -> Iterator[str]:
    """Expect the measured positions in two recordings and the bad mark in the third."""
    tables = {subject: f"{subject}/eeg/{subject}_electrodes.tsv" for subject in ("sub-01", "sub-02")}
    yield from measured_places(tables)(case)
    rows = case.rows("sub-03")
    if not rows:
        yield f"sub-03 is refused: {case.reason('sub-03')}"
    elif not any(_bare(name) == "fp1" for name in rows[0].bad_channels):
        yield f"sub-03: Fp1 is not among the bad channels {rows[0].bad_channels}"


def numbered(case: Case) -> Iterator[str]:
    """Expect one recording for each file that MNE opens as one file."""
    import mne

    files = sorted((case.archive / "patient7").glob("*.fif"))
    raws = [mne.io.read_raw_fif(file, verbose="ERROR") for file in files]
    true = sorted(float(raw.n_times / raw.info["sfreq"]) for raw in raws if len(raw.filenames) == 1)
    found = sorted(row.duration_s for row in case.rows())
    if len(found) != len(true) or not np.allclose(found, true, atol=1 / 256):
        yield f"{len(found)} recordings of {found} s, {len(true)} files of {true} s"


def pauses(case: Case) -> Iterator[str]:
    """Expect that no filter ran over a pause, or that the recording is refused for it."""
    for subject in (f"sub-{i:02d}" for i in range(1, 6)):
        largest = max((float(np.abs(case.signal(row)[1]).max()) for row in case.rows(subject)), default=0.0)
        if largest > OTHER_FILTER * PAUSE_LIMIT_V:
            yield f"{subject}: largest value {1e6 * largest:.0f} µV, each side alone has {1e6 * PAUSE_LIMIT_V:.0f}"
        if not largest and not re.search("gap|pause|discontinu|boundar", case.reason(subject)):
            yield f"{subject}: neither ready nor refused for its pause: {case.reason(subject)!r}"


def triggers(case: Case) -> Iterator[str]:
    """Expect every trigger that MNE finds in the trigger channel, at its time, and no reserved mark as a remark."""
    import mne

    for subject, n_true in TRIGGERS.items():
        file, rows = case.file(subject), case.rows(subject)
        if not rows:
            yield f"{subject} is refused: {case.reason(subject)}"
            continue
        read = mne.io.read_raw_edf if file.suffix == ".edf" else mne.io.read_raw_fif
        raw = read(file, preload=True, verbose="ERROR")
        onsets = mne.find_events(raw, raw.ch_names[-1], shortest_event=1, verbose="ERROR")[:, 0]
        true = (onsets - raw.first_samp) / raw.info["sfreq"]
        assert len(true) == n_true, f"{file.name}: MNE finds {len(true)} triggers"
        events: list[Event] = [event for row in rows for event in read_events(case.store, row.recording)]
        found = np.array([event.onset_s for event in events if event.trial_type != "remark"])
        lost = [t for t in true if not len(found) or np.abs(found - t).min() > 2 / raw.info["sfreq"]]
        if lost:
            yield f"{subject}: {len(lost)} of {len(true)} triggers are lost"
        if file.suffix == ".fif" and any(event.trial_type == "remark" for event in events):
            yield f"{subject}: a mark that MNE reserves became a remark"


def projector(case: Case) -> Iterator[str]:
    """Expect 17 EEG channels, the two that the table calls EOG dropped."""
    rows = case.rows("sub-01")
    if not rows:
        yield f"sub-01 is refused: {case.reason('sub-01')}"
        return
    if rows[0].n_eeg != 17 or set(rows[0].dropped) != {"Fp1", "Fp2"}:
        yield f"{rows[0].n_eeg} EEG channels, dropped {rows[0].dropped}"


def two_archives(case: Case) -> Iterator[str]:
    """Expect that both archives' recordings are kept, under two names, or that the second is refused."""
    first, second = (case.archive / name / "bids" for name in ("study1", "study2"))
    ingest(IngestConfig(archive=str(first), root=str(case.root), workers=0))
    before = {row.recording: row.licence for row in case.rows()}
    try:
        ingest(IngestConfig(archive=str(second), root=str(case.root), workers=0))
    except UserError as error:
        if "--dataset" not in str(error):
            yield f"the refusal does not name the flag: {error}"
        if {row.recording: row.licence for row in case.rows()} != before:
            yield "the refusal changed the store"
        return
    if not before.items() <= {row.recording: row.licence for row in case.rows()}.items():
        yield "recordings of the first archive are gone"
    subjects = sorted((row.licence, row.dataset, row.subject) for row in case.rows())
    if len(subjects) != 4 or len({subject[1:] for subject in subjects}) != 4 or subjects[1][0] == subjects[2][0]:
        yield f"licences, datasets and subjects are {subjects}"


CHECKS: dict[str, Check] = {
    "brainvision-segments-spectra-averages": refused(
        {"sub-01": "segment|epoch", "sub-02": "spectr|frequenc", "sub-03": "averag"}
    ),
    "depth-electrodes-taken-for-scalp": refused(dict.fromkeys(("sub-01", "sub-02", "sub-03"), "intracranial|depth")),
    "edf-signals-of-several-rates": rates,
    "electrodes-in-two-spaces": measured_places(
        {subject: f"{subject}/eeg/{subject}_space-CapTrak_electrodes.tsv" for subject in ("sub-01", "sub-02")}
    ),
    "numbered-fif-recordings-swallowed": numbered,
    "pauses-taken-as-continuous": pauses,
    "sidecar-names-in-other-spelling": spelling,
    "triggers-lost-beside-annotations": triggers,
    "two-archives-of-one-folder-name": two_archives,
    "type-change-of-a-channel-in-a-projector": projector,
}
"""The check of each archive's result, by archive name."""


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def _bare(name: str) -> str:
    """Return a 10-20 electrode name without what amplifiers add to it."""
    return re.sub(r"^eeg\s+|-ref$", "", name.strip().lower())


def examined(name: str, check: Check, root: Path) -> list[str]:
    """Ingest one archive and return what is wrong with it."""
    archive = CASES / name / "archive"
    if check is two_archives:
        return list(check(Case(archive, root)))
    try:
        case = ingested(archive, root)
    except UserError as error:
        Store.open(str(root), create=True)
        return [f"the archive was refused: {error}"]
    return list(check(case))


def main() -> None:
    """Compare every archive, and print the result as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", choices=[[], *CHECKS], default=[])
    chosen = parser.parse_args().cases or list(CHECKS)
    began = time.perf_counter()
    failures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="emeg-field-") as folder:
        for name in chosen:
            wrong = examined(name, CHECKS[name], Path(folder) / name)
            print(f"{'wrong' if wrong else 'right'}  {name}", *wrong, sep="\n       ")
            if wrong:
                failures[name] = wrong
    unknown = sorted(path.name for path in CASES.iterdir() if path.is_dir() and path.name not in CHECKS)
    result = {"benchmark": "field", "right": len(chosen) - len(failures), "wrong": len(failures), "unknown": unknown}
    seconds = round(time.perf_counter() - began, 1)
    print(json.dumps({**result, "failures": failures, "seconds": seconds}, ensure_ascii=False))


if __name__ == "__main__":
    main()
