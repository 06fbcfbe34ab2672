"""Faults of EDF and BDF headers, and files in another format than their suffix."""

import gzip
from collections.abc import Callable
from pathlib import Path

import edfio
from tests.ingest.faults.corpus import Ready, Refused, fault
from tests.ingest.faults.intact import FOLDER, LABELS, NAMES, ONSETS_S, SFREQ, STEM, put, raw_eeg, truth, write

# Widths of a signal's fields behind the 256 bytes of the head, in their order.
LABEL, TRANSDUCER, UNIT, PHYSICAL_MIN, PHYSICAL_MAX, DIGITAL_MIN, DIGITAL_MAX, PREFILTER, SAMPLES = range(9)
_WIDTHS = (16, 80, 8, 8, 8, 8, 8, 80, 8)


def field_at(head: bytes, which: int, signal: int) -> tuple[int, int]:
    """Return the offset and width of a field of one signal."""
    n = int(head[252:256])
    return 256 + n * sum(_WIDTHS[:which]) + signal * _WIDTHS[which], _WIDTHS[which]


def patch(path: Path, start: int, width: int, text: str | bytes) -> None:
    """Overwrite a field."""
    data = bytearray(path.read_bytes())
    data[start : start + width] = (text if isinstance(text, bytes) else text.encode("latin-1")).ljust(width)
    path.write_bytes(data)


def set_field(path: Path, which: int, text: str | bytes, signals: range | tuple[int, ...]) -> None:
    """Overwrite a field of several signals."""
    head = path.read_bytes()[:256]
    for signal in signals:
        patch(path, *field_at(head, which, signal), text)


def changed(change: Callable[[bytes], bytes], archive: Path, kind: str = "edf") -> None:
    path = put(archive, kind)
    path.write_bytes(change(path.read_bytes()))


@fault(Refused("truncated", more=("records",)))
def edf_cut_in_the_data(archive: Path) -> None:
    changed(lambda data: data[: len(data) // 2], archive)


@fault(Refused("truncated"), extension="bdf")
def bdf_cut_by_one_byte(archive: Path) -> None:
    changed(lambda data: data[:-1], archive, "bdf")


@fault(Refused("header"))
def edf_cut_in_the_header(archive: Path) -> None:
    changed(lambda data: data[:1000], archive)


@fault(Refused("header"))
def edf_cut_in_the_first_field(archive: Path) -> None:
    changed(lambda data: data[:5], archive)


@fault(Refused("truncated", more=("99999999 records",)))
def edf_promises_a_thousand_million_samples(archive: Path) -> None:
    patch(put(archive, "edf"), 236, 8, "99999999")


@fault(Ready())
def edf_record_count_unknown_and_all_there(archive: Path) -> None:
    """-1 stands for a recording in progress; the records themselves are whole."""
    patch(put(archive, "edf"), 236, 8, "-1")


@fault(Refused("records"))
def edf_more_records_than_the_header_counts(archive: Path) -> None:
    """The bytes after the counted records may belong to another file; this cannot be known."""
    patch(put(archive, "edf"), 236, 8, "6")


@fault(Refused("records"))
def edf_no_records(archive: Path) -> None:
    patch(put(archive, "edf"), 236, 8, "0")


@fault(Refused("header"))
def edf_header_length_contradicts_signal_count(archive: Path) -> None:
    patch(put(archive, "edf"), 184, 8, "512")


@fault(Refused("header"))
def edf_no_signals(archive: Path) -> None:
    patch(put(archive, "edf"), 252, 4, "0")


@fault(Refused("header"))
def edf_negative_number_of_signals(archive: Path) -> None:
    patch(put(archive, "edf"), 252, 4, "-3")


@fault(Refused("record", more=("0 s",)))
def edf_records_of_no_length(archive: Path) -> None:
    patch(put(archive, "edf"), 244, 8, "0")


@fault(Refused("record"))
def edf_records_of_negative_length(archive: Path) -> None:
    patch(put(archive, "edf"), 244, 8, "-1")


@fault(Refused("record"))
def edf_record_length_is_no_number(archive: Path) -> None:
    patch(put(archive, "edf"), 244, 8, "nan")


@fault(Refused("rate"))
def edf_rate_of_a_megahertz(archive: Path) -> None:
    patch(put(archive, "edf"), 244, 8, "0.0002")


@fault(Refused("rate"))
def edf_a_sample_a_minute(archive: Path) -> None:
    patch(put(archive, "edf"), 244, 8, "12000")


@fault(Refused("header"))
def edf_samples_per_record_negative(archive: Path) -> None:
    set_field(put(archive, "edf"), SAMPLES, "-200", (3,))


@fault(Refused("digital"))
def edf_digital_range_empty(archive: Path) -> None:
    """Without a digital range there is no scale: the channel's unit is unknown, by a fault of the writer."""
    set_field(put(archive, "edf"), DIGITAL_MIN, "32767", (2,))


@fault(Refused("physical"))
def edf_physical_range_empty(archive: Path) -> None:
    path = put(archive, "edf")
    set_field(path, PHYSICAL_MIN, "0", (2,))
    set_field(path, PHYSICAL_MAX, "0", (2,))


@fault(Ready(notes=("date",)))
def edf_impossible_date(archive: Path) -> None:
    """Dates never reach the store, so a wrong date loses nothing."""
    patch(put(archive, "edf"), 168, 16, "99.99.9999.99.99")


@fault(Ready())
def edf_name_with_accents_in_latin_1(archive: Path) -> None:
    patch(put(archive, "edf"), 8, 80, "M\xfcller-L\xfcdenscheidt \xe9\xe0")


@fault(Ready())
def edf_micro_sign_in_latin_1(archive: Path) -> None:
    set_field(put(archive, "edf"), UNIT, b"\xb5V", range(len(NAMES)))


@fault(Ready())
def edf_unit_in_other_spelling(archive: Path) -> None:
    set_field(put(archive, "edf"), UNIT, "UV", range(len(NAMES)))


@fault(Refused("too large by a factor near 1,000"))
def edf_millivolts_for_microvolts(archive: Path) -> None:
    set_field(put(archive, "edf"), UNIT, "mV", range(len(NAMES)))


@fault(Refused("too large by a factor near 1,000,000"))
def edf_volts_for_microvolts(archive: Path) -> None:
    set_field(put(archive, "edf"), UNIT, "V", range(len(NAMES)))


@fault(Refused("too small by a factor near 1,000"))
def edf_numbers_a_thousand_times_too_small(archive: Path) -> None:
    raw = raw_eeg(truth() * 1e-3)
    write(raw, archive / FOLDER / f"{STEM}.edf")


@fault(Refused("too large"))
def edf_without_units_and_without_a_table(archive: Path) -> None:
    set_field(put(archive, "edf"), UNIT, "", range(len(NAMES)))


@fault(Ready())
def edf_prefilter_nonsense(archive: Path) -> None:
    set_field(put(archive, "edf"), PREFILTER, "HP:DC LP:n/a N:ja", range(len(NAMES)))


@fault(Ready())
def edf_cut_off_frequencies_exchanged(archive: Path) -> None:
    """A high-pass above the low-pass is no filter; the signal is complete anyway."""
    set_field(put(archive, "edf"), PREFILTER, "HP:95Hz LP:0.5Hz", range(len(NAMES)))


@fault(Ready(channels=17, dropped=("C3-0", "C3-1")))
def edf_two_channels_of_one_name(archive: Path) -> None:
    """It cannot be known which of the two is the electrode."""
    set_field(put(archive, "edf"), LABEL, "C3", (NAMES.index("C4"),))


@fault(Ready(electrodes={name.upper() + ".": name for name in NAMES}))
def edf_names_in_capitals_with_dots(archive: Path) -> None:
    path = put(archive, "edf")
    for i, name in enumerate(NAMES):
        set_field(path, LABEL, f"{name.upper()}.", (i,))


@fault(Refused("no usable channel"))
def edf_names_that_name_nothing(archive: Path) -> None:
    path = put(archive, "edf")
    for i in range(len(NAMES)):
        set_field(path, LABEL, f"Ch {i}", (i,))


@fault(Refused("no usable channel"))
def edf_names_empty(archive: Path) -> None:
    set_field(put(archive, "edf"), LABEL, "", range(len(NAMES)))


def _signals(rates: dict[str, int]) -> list[edfio.EdfSignal]:
    values = dict(zip(NAMES, truth() * 1e6, strict=True))
    return [
        edfio.EdfSignal(values[name][:: round(SFREQ) // rate], rate, label=name, physical_dimension="uV")
        for name, rate in rates.items()
    ]


def _annotations() -> list[edfio.EdfAnnotation]:
    return [edfio.EdfAnnotation(t, 0.0, text) for t, text in zip(ONSETS_S, LABELS, strict=True)]


@fault(Ready(channels=18, dropped=("ECG",)))
def edf_heart_channel_at_another_rate(archive: Path) -> None:
    signals = _signals(dict.fromkeys(NAMES, 200) | {"O2": 50})
    signals[-1].label = "ECG"
    (archive / FOLDER).mkdir(parents=True)
    edfio.Edf(signals, annotations=_annotations()).write(archive / FOLDER / f"{STEM}.edf")


@fault(Refused("annotations"), source_events=8)
def edf_annotations_alone(archive: Path) -> None:
    (archive / FOLDER).mkdir(parents=True)
    edfio.Edf([], annotations=_annotations()).write(archive / FOLDER / f"{STEM}.edf")


def _discontinuous(path: Path, starts: list[float]) -> None:
    """Declare EDF+D and give records other start times, in the annotation signal's first list."""
    patch(path, 192, 44, "EDF+D")
    data = bytearray(path.read_bytes())
    n_header, n_signals = int(data[184:192]), int(data[252:256])
    counts = [int(data[s : s + w]) for s, w in (field_at(data, SAMPLES, i) for i in range(n_signals))]
    record = 2 * sum(counts)
    for i, start in enumerate(starts):
        place = n_header + i * record + 2 * sum(counts[:-1])
        tal = bytes(data[place : place + 2 * counts[-1]]).rstrip(b"\0")
        rest = tal.partition(b"\x14\x14\0")[2]
        new = f"+{start:g}".encode() + b"\x14\x14\0" + rest + b"\0"
        data[place : place + 2 * counts[-1]] = new[: 2 * counts[-1]].ljust(2 * counts[-1], b"\0")
    path.write_bytes(data)


@fault(Ready())
def edf_declared_discontinuous_without_a_gap(archive: Path) -> None:
    _discontinuous(put(archive, "edf"), [float(i) for i in range(12)])


@fault(Ready(events=5, lost=3, notes=("2 stretches", "60.000 s of pauses", "lie in a pause")))
def edf_with_a_gap_of_a_minute(archive: Path) -> None:
    """Three events are at times of the pause; the signal on both sides is kept."""
    _discontinuous(put(archive, "edf"), [float(i + 60 * (i > 5)) for i in range(12)])


@fault(Refused("back"))
def edf_with_time_stamps_going_back(archive: Path) -> None:
    _discontinuous(put(archive, "edf"), [float(i - 5 * (i > 5)) for i in range(12)])


@fault(Refused("empty"))
def edf_without_a_byte(archive: Path) -> None:
    changed(lambda _: b"", archive)


@fault(Refused("header"))
def edf_that_is_a_text(archive: Path) -> None:
    changed(lambda _: b"The recording was moved to the new server.\n" * 20, archive)


@fault(Refused("HTML"), extension="fif")
def fif_that_is_a_web_page(archive: Path) -> None:
    changed(
        lambda _: b"<!DOCTYPE html>\n<html><head><title>504 Gateway Time-out</title></head></html>\n", archive, "fif"
    )


@fault(Refused("HTML"))
def edf_that_is_a_web_page(archive: Path) -> None:
    changed(lambda _: b"\n<html><body>Access denied</body></html>" + b" " * 600, archive)


@fault(Refused("gzip"))
def edf_that_is_compressed(archive: Path) -> None:
    changed(lambda data: gzip.compress(data, mtime=0), archive)


@fault(Refused("gzip"), extension="fif")
def fif_that_is_compressed_without_saying_so(archive: Path) -> None:
    changed(lambda data: gzip.compress(data, mtime=0), archive, "fif")


@fault(Refused("git-annex"))
def edf_that_is_an_annex_pointer(archive: Path) -> None:
    changed(lambda _: b"/annex/objects/MD5E-s1034000--d41d8cd98f00b204e9800998ecf8427e.edf\n", archive)


@fault(Refused("Git LFS"), extension="fif")
def fif_that_is_a_large_file_pointer(archive: Path) -> None:
    text = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
    changed(lambda _: text, archive, "fif")


@fault(Refused("header"))
def edf_full_of_zeros(archive: Path) -> None:
    changed(lambda data: bytes(len(data)), archive)


@fault(Refused("text"))
def edf_sent_as_text(archive: Path) -> None:
    changed(lambda data: data.replace(b"\n", b"\r\n"), archive)


@fault(Ready(channels=1), source_events=8)
def edf_with_one_channel(archive: Path) -> None:
    write(raw_eeg(truth()[9:10], ("Cz",)), archive / FOLDER / f"{STEM}.edf")


@fault(Refused("too short"), extension="fif", source_events=0)
def fif_with_three_samples(archive: Path) -> None:
    write(raw_eeg(truth()[:, :3], events=False), archive / FOLDER / f"{STEM}.fif")
