"""Open a recording of any format with MNE-Python, and read it in stretches.

Nothing is loaded on opening. Warnings become notes, or refusals where they say that data are missing.

Shape letters: C channels, N samples.
"""

import contextlib
import io
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from emeg.errors import EmegError, RecordingError
from emeg.ingest.channel_rows import ChannelRows
from emeg.ingest.facts import RecordingFacts
from emeg.ingest.readers.epoched import read_eeglab
from emeg.ingest.readers.header_bci2000 import apply_bci2000
from emeg.ingest.readers.header_cnt import data_format, is_neuroscan
from emeg.ingest.readers.header_ctf import check_averages, check_markers
from emeg.ingest.readers.header_edf import stated_units
from emeg.ingest.readers.headers import check_promises
from emeg.ingest.readers.presence import check_files, check_opened
from emeg.ingest.readers.rates import RateGroup, correct_gdf_events, correct_header_rate, interpolate
from emeg.ingest.readers.reader_errors import as_remark, format_name, not_continuous, translated
from emeg.ingest.refusals import FETCH_AGAIN
from emeg.ingest.source import Source
from emeg.ingest.units import volts

if TYPE_CHECKING:
    import mne

STRETCH_SAMPLES = 2**24
"""Samples of all channels of the file that are read at once (128 MiB in double precision)."""

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 16.0, 200_000.0
SHORTEST_S = 0.1

_REFUSED_WARNINGS = ("truncated", "does not match the file size", "incomplete", "corrupt")
"""Warnings of readers that mean lost data."""


@dataclass(frozen=True)
class Opened:
    """An open recording and the remarks of its reader."""

    raw: "mne.io.BaseRaw"
    notes: tuple[str, ...]


def open_recording(source: Source, folder: Path) -> Opened:
    """Open a recording without loading it.

    Parameters
    ----------
    source : Source
    folder : Path
        Where the archive's files lie (`emeg.ingest.transfer.download.fetched`).

    Raises
    ------
    RecordingError
        The file is damaged or incomplete, or its reader refuses it.
    """
    import mne

    if source.problem:
        raise RecordingError(f"{source.path}: {source.problem}", next_action="add the missing file")
    check_files(source, folder)
    check_promises(
        folder / source.path, source.format, source.path, events_elsewhere=bool(source.sidecars_named("events"))
    )
    with reading(source, folder) as remarks:
        raw = _READERS.get(source.format, _read_any)(folder / source.path, _companions(source, folder))
        if not isinstance(raw, mne.io.BaseRaw):  # Curry's reader returns epochs and averages, too
            raise not_continuous(source.path, format_name(source))
        correct_header_rate(raw)
        if source.format == "gdf":
            correct_gdf_events(raw)
    _check_companions(source, folder, raw)
    _check_frames(source, raw)
    _check_extent(source, raw)
    check_opened(source, raw.filenames)
    return Opened(raw, _judge(source, folder, remarks))


def read_signal(facts: RecordingFacts, folder: Path, into: ChannelRows) -> None:
    """Read the chosen channels of the whole recording; the mean of each stretch's start is removed.

    A channel's offset (hundreds of millivolts in direct-coupled amplifiers) would cost float32 the signal's last
    digits, and the pass band does not contain it. Files that MNE always reads as a whole (some EEGLAB and EGI) are in
    memory as a whole.

    Parameters
    ----------
    facts : RecordingFacts
        The open file, its groups of channels of one rate, and its stretches.
    folder : Path
        Folder with the archive's files.
    into : ChannelRows
        Table (channels, samples) that is filled; volts, teslas or teslas per metre.

    Raises
    ------
    RecordingError
        The file ends or breaks before its last sample.
    """
    fastest, *slower = facts.groups
    picks = np.arange(len(fastest.rows))
    if not slower or facts.raw.preload:  # a step of cleaning loads, and replaces, the whole recording
        picks, slower = facts.picked.picks, []
        fastest = RateGroup(facts.raw, np.arange(len(picks)))
    length = max(1, STRETCH_SAMPLES // max(1, len(facts.raw.ch_names)))
    for stretch in facts.stretches:
        offset_C1: NDArray[np.float64] | None = None
        for start in range(stretch.start, stretch.stop, length):
            block_CN = _read_block(facts.source, folder, fastest.raw, picks, start, min(start + length, stretch.stop))
            # what float32 cannot hold is infinite and is refused as such
            with np.errstate(over="ignore", invalid="ignore"):
                if offset_C1 is None:
                    offset_C1 = _means(block_CN)
                block_CN -= offset_C1
                _put_rows(into, fastest.rows, start, block_CN)
    for group in slower:
        for channel, row in enumerate(group.rows.tolist()):
            one = np.array([channel])
            row_1N = _read_block(facts.source, folder, group.raw, one, 0, group.raw.n_times)
            full_N = interpolate(row_1N[0], into.shape[1])
            for stretch in facts.stretches:
                part_1N = full_N[None, stretch.start : stretch.stop]
                with np.errstate(over="ignore", invalid="ignore"):
                    _put_rows(into, np.array([row]), stretch.start, part_1N - _means(part_1N))


def _read_block(
    source: Source, folder: Path, raw: "mne.io.BaseRaw", picks: NDArray[np.intp], start: int, stop: int
) -> NDArray[np.float64]:
    with reading(source, folder) as remarks:
        block_CN: NDArray[np.float64] = raw.get_data(picks=picks, start=start, stop=stop)
    _judge(source, folder, remarks)
    if block_CN.shape[1] != stop - start:
        raise RecordingError(
            f"{source.path}: the file ends after {start + block_CN.shape[1]} samples", next_action=FETCH_AGAIN
        )
    return block_CN


def _means(block_CN: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of each channel, 0 where it is no number, shape (channels, 1)."""
    mean_C1 = block_CN.mean(axis=1, keepdims=True)
    return np.where(np.isfinite(mean_C1), mean_C1, 0.0)


def _put_rows(into: ChannelRows, rows: NDArray[np.intp], start: int, block_CN: NDArray[np.float64]) -> None:
    """Write a block whose channels need not be neighbours in the table."""
    if len(rows) == len(into):
        into.put(0, start, block_CN.astype(np.float32))
        return
    for row, values_N in zip(rows.tolist(), block_CN, strict=True):
        into.put(row, start, values_N[None].astype(np.float32))


@contextlib.contextmanager
def reading(source: Source, folder: Path) -> Iterator[list[str]]:
    """Collect the warnings of code that reads a file through MNE-Python, and translate its exceptions.

    Yields
    ------
    list of str
        Filled with the warnings on leaving.

    Raises
    ------
    RecordingError
        Any exception, in words that say what to do.
    """
    import mne

    remarks: list[str] = []
    printed = io.StringIO()  # mffpy prints what it misses
    with (
        warnings.catch_warnings(record=True) as caught,
        mne.utils.use_log_level("WARNING"),
        contextlib.redirect_stdout(printed),
    ):
        warnings.simplefilter("always")
        try:
            yield remarks
        except EmegError:
            raise
        # The one place where any exception is caught: readers of two dozen formats meet damaged files with ValueError,
        # OSError, struct.error, KeyError, XML and pickle-like errors, even a bare Exception (EDF annotations), and one
        # bad file must not end the run.
        except Exception as error:
            raise translated(error, source, folder) from error
        finally:
            remarks += [as_remark(warning.message, folder) for warning in caught]
            remarks += [as_remark(line, folder) for line in printed.getvalue().splitlines()]


def _judge(source: Source, folder: Path, remarks: list[str]) -> tuple[str, ...]:
    for remark in remarks:
        # `header_edf` has compared the counts of EDF records; -1 means unknown and is no contradiction.
        counted = source.format in {"edf", "bdf"} and remark.startswith("Number of records from the header")
        if not counted and any(word in remark.lower() for word in _REFUSED_WARNINGS):
            raise RecordingError(f"{source.path}: {remark}", next_action="fetch the file again")
    return tuple(dict.fromkeys(remarks))


def _companions(source: Source, folder: Path) -> list[Path]:
    return [folder / file.path for file in source.files if file.path != source.path]


def _check_companions(source: Source, folder: Path, raw: "mne.io.BaseRaw") -> None:
    """Compare the size of EEGLAB's .fdt, which is not read on opening, with what the .set promises."""
    for path in _companions(source, folder):
        if path.suffix.lower() != ".fdt":
            continue
        promised = 4 * len(raw.ch_names) * raw.n_times
        if path.stat().st_size < promised:
            raise RecordingError(
                f"{source.path}: the file is truncated: {path.name} has {path.stat().st_size} bytes,"
                f" {raw.n_times} samples of {len(raw.ch_names)} channels need {promised}",
                next_action="fetch the file again",
            )


def _check_frames(source: Source, raw: "mne.io.BaseRaw") -> None:
    """Check that the last sample is there for every channel; Persyst and FIL headers state no length."""
    for path, extras in zip(raw.filenames, raw._raw_extras, strict=True):
        dtype = (extras or {}).get("dtype" if source.path.lower().endswith(".lay") else "dt")
        if path is None or not isinstance(dtype, np.dtype):
            continue
        rest = Path(path).stat().st_size % (dtype.itemsize * len(raw.ch_names))
        if rest:
            raise RecordingError(
                f"{source.path}: the file is truncated: {Path(path).name} ends {rest} bytes after a whole sample of its"
                f" {len(raw.ch_names)} channels",
                next_action="fetch the file again",
            )


def _check_extent(source: Source, raw: "mne.io.BaseRaw") -> None:
    """Refuse a rate that no amplifier has, a length that no filter can use, and parts that do not join."""
    for last, first in zip(raw._last_samps[:-1], raw._first_samps[1:], strict=True):
        if first != last + 1:
            raise RecordingError(
                f"{source.path}: a later part of the split file ({_part_name(source)}) begins at sample {first}, the"
                f" one before ends at {last}: it is another recording's",
                next_action="put the parts that were written together beside each other",
            )
    sfreq = float(raw.info["sfreq"])
    if not LOWEST_RATE_HZ <= sfreq <= HIGHEST_RATE_HZ:
        raise RecordingError(
            f"{source.path}: the sampling rate is {sfreq:g} Hz, amplifiers have {LOWEST_RATE_HZ:g} to"
            f" {HIGHEST_RATE_HZ:g} Hz",
            next_action="correct the rate in the header",
        )
    if raw.n_times < SHORTEST_S * sfreq:
        raise RecordingError(
            f"{source.path}: the recording is too short: {raw.n_times} samples at {sfreq:g} Hz",
            next_action="leave it out; there is nothing to be learned from it",
        )


def _part_name(source: Source) -> str:
    return ", ".join(PurePosixPath(file.path).name for file in source.files[1:])


Companions = list[Path]
_CURRY_EXTENSIONS = frozenset({".cdt", ".dap"})
"""Read with a package of its own, an extra of emeg; looked for first, so that its absence is what is reported."""


def _first(companions: Companions, *words: str) -> Path | None:
    return next((path for path in companions if any(word in path.name.lower() for word in words)), None)


def _read_any(path: Path, _: Companions) -> Any:  # noqa: ANN401 - mne is untyped
    import mne

    if path.suffix.lower() in _CURRY_EXTENSIONS:
        import_module("curryreader")
    return mne.io.read_raw(path, preload=False)


def _read_artemis123(path: Path, _: Companions) -> Any:  # noqa: ANN401
    """Open without locating the head, for which MNE needs continuous coil signals and may fail for want of them."""
    import mne

    return mne.io.read_raw_artemis123(path, add_head_trans=False, preload=False)


def _read_bti(path: Path, companions: Companions) -> Any:  # noqa: ANN401
    import mne

    config = _first(companions, "config")
    shape = next((p for p in companions if p != config), None)
    raw = mne.io.read_raw_bti(path, config, shape, preload=False)
    if int(raw._raw_extras[0]["input_epochs"]) > int(raw._raw_extras[0]["total_epochs"]):  # averages count their input
        raise not_continuous(path.name, "4D")
    return raw


def _read_cnt(path: Path, _: Companions) -> Any:  # noqa: ANN401
    """Open a file of ANT Neuro, which is a RIFF container, or of Neuroscan, whose samples have 2 or 4 bytes."""
    import mne

    if not is_neuroscan(path):
        return mne.io.read_raw_ant(path, preload=False)
    return mne.io.read_raw_cnt(path, data_format=data_format(path, path.name), preload=False)


def _read_ctf(path: Path, _: Companions) -> Any:  # noqa: ANN401
    import mne

    check_averages(path)
    check_markers(path)
    return mne.io.read_raw_ctf(path, system_clock="ignore", preload=False)


def _read_edf(path: Path, _: Companions) -> Any:  # noqa: ANN401
    import mne

    read = mne.io.read_raw_bdf if path.suffix.lower() == ".bdf" else mne.io.read_raw_edf
    try:
        raw = read(path, preload=False)
    except UnicodeDecodeError:
        raw = read(path, preload=False, encoding="latin1")
    # MNE takes a voltage that it does not spell so ("UV", "microV", "nV") for volts.
    factors = raw._raw_extras[0]["units"]
    for i, unit in enumerate(stated_units(path, path.name)):
        if i < len(factors) and factors[i] == 1.0:
            factors[i] = volts(unit) or 1.0
    return raw


def _read_dat(path: Path, _: Companions) -> Any:  # noqa: ANN401
    """Open a BCI2000 file, which begins with the length of its header, or else a Curry file."""
    import mne

    with path.open("rb") as file:
        head = file.read(64)
    if b"HeaderLen" not in head:
        import_module("curryreader")
        return mne.io.read_raw_curry(path, preload=False)
    raw = mne.io.read_raw_bci2k(path, preload=True)  # MNE reads these whole or not at all
    apply_bci2000(raw, path)
    return raw


def _read_fil(path: Path, _: Companions) -> Any:  # noqa: ANN401
    import mne

    return mne.io.read_raw_fil(path, preload=False)


_AVERAGING = re.compile(rb"<method>\s*(?:grand )?averag", re.IGNORECASE)
"""Step in the history of an MFF folder that makes an average of its segments."""


def _read_egi(path: Path, _: Companions) -> Any:  # noqa: ANN401
    """Open an EGI file; an average in an MFF folder is refused, and its segments are stretches with gaps between."""
    import mne

    history = path / "history.xml"
    if history.is_file() and _AVERAGING.search(history.read_bytes()):
        raise not_continuous(path.name, "EGI MFF")
    return mne.io.read_raw_egi(path, preload=False, events_as_annotations=True)


def _read_eeglab(path: Path, _: Companions) -> Any:  # noqa: ANN401
    return read_eeglab(path)


def _read_fif(path: Path, _: Companions) -> Any:  # noqa: ANN401
    """Open FIF, unprocessed internal active shielding too: `meg_state.refuse_shielded` refuses it with its name."""
    import mne

    return mne.io.read_raw_fif(path, allow_maxshield="yes", preload=False)


def _read_kit(path: Path, companions: Companions) -> Any:  # noqa: ANN401
    import mne

    markers = [p for p in companions if _first([p], "mrk", "marker") is not None]
    elp = _first([p for p in companions if p not in markers], "elp", ".pos")
    hsp = _first([p for p in companions if p not in markers], "hsp", "headshape")
    hsp = None if hsp == elp else hsp
    complete = markers and elp and hsp
    return mne.io.read_raw_kit(
        path,
        mrk=(markers if len(markers) > 1 else markers[0]) if complete else None,
        elp=elp if complete else None,
        hsp=hsp if complete else None,
        preload=False,
    )


_PATIENT = re.compile(rb"^\[Patient\].*?(?=^\[|\Z)", re.MULTILINE | re.DOTALL | re.IGNORECASE)
_NOBODY = b"[Patient]\nBirthDate=01/01/70\nSex=\nHand=\nTestDate=01/01/2000\nTestTime=00:00:00\n"


def _read_persyst(path: Path, companions: Companions) -> Any:  # noqa: ANN401
    """Open a Persyst recording by a copy of its header with a birth date, without which MNE cannot read it."""
    import mne

    header = _PATIENT.sub(b"", path.read_bytes()) + b"\n" + _NOBODY
    data = {file.name: file for file in companions if file.suffix.lower() == ".dat"}
    with tempfile.TemporaryDirectory(prefix="emeg-") as scratch:
        copy = Path(scratch) / f"{path.stem}.lay"
        copy.write_bytes(header)
        for name, file in data.items():
            (copy.parent / name).symlink_to(file.resolve())
        raw = mne.io.read_raw_persyst(copy, preload=False)
    raw._filenames = tuple(data[Path(file).name] for file in raw.filenames)
    return raw


def _read_nicolet(path: Path, _: Companions) -> Any:  # noqa: ANN401
    import mne

    return mne.io.read_raw_nicolet(path, ch_type="eeg", preload=False)


_READERS: dict[str, Callable[[Path, Companions], Any]] = {
    "artemis123": _read_artemis123,
    "bdf": _read_edf,
    "bti": _read_bti,
    "cnt": _read_cnt,
    "ctf": _read_ctf,
    "dat": _read_dat,
    "fil": _read_fil,
    "edf": _read_edf,
    "eeglab": _read_eeglab,
    "egi-mff": _read_egi,
    "egi-raw": _read_egi,
    "fif": _read_fif,
    "kit": _read_kit,
    "nicolet": _read_nicolet,
    "persyst": _read_persyst,
}
