"""Faults of a recording's JSON sidecar and channels table."""

import json
from pathlib import Path

from tests.ingest.faults.corpus import Ready, Refused, fault
from tests.ingest.faults.intact import FOLDER, LABELS, NAMES, SECONDS, SFREQ, put

PREFIX = "sub-01_task-rest"


def beside(archive: Path, suffix: str, text: str | bytes, kind: str = "edf") -> Path:
    """Put a good recording and one sidecar into the archive."""
    path = put(archive, kind)
    data = text.encode() if isinstance(text, str) else text
    extension = "json" if suffix in {"eeg", "coordsystem"} else "tsv"
    (archive / FOLDER / f"{PREFIX}_{suffix}.{extension}").write_bytes(data)
    return path


def table(rows: list[dict[str, str]], separator: str = "\t") -> str:
    """Write rows as a BIDS table."""
    return "\n".join([separator.join(rows[0]), *(separator.join(row.values()) for row in rows)]) + "\n"


def channels(**changes: dict[str, str]) -> list[dict[str, str]]:
    """List all channels as good EEG in microvolts, except `changes` by name."""
    return [{"name": n, "type": "EEG", "units": "uV", "status": "good"} | changes.get(n, {}) for n in NAMES]


def sidecar(**fields: object) -> str:
    """Write the JSON of a recording that is correct except `fields`."""
    right: dict[str, object] = {
        "TaskName": "rest",
        "SamplingFrequency": SFREQ,
        "PowerLineFrequency": 50,
        "EEGChannelCount": len(NAMES),
        "RecordingDuration": SECONDS,
        "EEGReference": "Cz",
    }
    return json.dumps(right | fields)


@fault(Refused("JSON", file="sub-01_task-rest_eeg.json"))
def json_cut_short(archive: Path) -> None:
    beside(archive, "eeg", sidecar()[:-20])


@fault(Refused("JSON", file="sub-01_task-rest_eeg.json"))
def json_empty(archive: Path) -> None:
    beside(archive, "eeg", "")


@fault(Refused("list", file="sub-01_task-rest_eeg.json"))
def json_with_a_list_for_an_object(archive: Path) -> None:
    beside(archive, "eeg", f"[{sidecar()}]")


@fault(Refused("JSON", file="sub-01_task-rest_eeg.json"))
def json_nested_a_hundred_thousand_deep(archive: Path) -> None:
    beside(archive, "eeg", '{"a":' + "[" * 100_000)


@fault(Ready(notes=("UTF-16",)))
def json_in_utf_16(archive: Path) -> None:
    beside(archive, "eeg", sidecar(InstitutionName="Universität").encode("utf-16"))


@fault(Ready(notes=("Latin-1",)))
def json_in_latin_1(archive: Path) -> None:
    beside(
        archive, "eeg", json.dumps(json.loads(sidecar(CapManufacturer="Müller")), ensure_ascii=False).encode("latin-1")
    )


@fault(Ready())
def json_with_a_byte_order_mark(archive: Path) -> None:
    beside(archive, "eeg", b"\xef\xbb\xbf" + sidecar().encode())


@fault(Ready())
def json_absent_values_everywhere(archive: Path) -> None:
    beside(archive, "eeg", json.dumps(dict.fromkeys(json.loads(sidecar()), "n/a")))


@fault(Ready())
def json_values_of_other_types(archive: Path) -> None:
    wrong = {
        "SamplingFrequency": None,
        "PowerLineFrequency": [50],
        "Manufacturer": {"name": "x"},
        "ManufacturersModelName": 7,
        "SoftwareFilters": [{"low-pass": 40}],
        "HardwareFilters": {"lowpass": "40 Hz", "low-pass": {"cutoff": {"value": 40}}},
        "RecordingDuration": True,
        "EEGChannelCount": "nineteen",
    }
    beside(archive, "eeg", sidecar(**wrong))


@fault(Ready())
def json_with_numbers_beyond_all_bounds(archive: Path) -> None:
    text = sidecar().replace('"PowerLineFrequency": 50', '"PowerLineFrequency": 1' + "0" * 400)
    text = text.replace('"RecordingDuration": 12', '"RecordingDuration": NaN')
    text = text.replace('"SamplingFrequency": 200.0', '"SamplingFrequency": -Infinity')
    beside(archive, "eeg", text)


@fault(Ready(notes=("mains",)))
def json_with_a_mains_frequency_of_a_millihertz(archive: Path) -> None:
    """No power grid has this frequency, and notches at its harmonics would remove the whole spectrum."""
    beside(archive, "eeg", sidecar(PowerLineFrequency=0.001))


@fault(Ready(notes=("low-pass",)))
def json_with_a_low_pass_of_a_millihertz(archive: Path) -> None:
    beside(archive, "eeg", sidecar(SoftwareFilters={"Low-pass": {"cutoff (Hz)": 0.001}}))


@fault(Ready(notes=("SamplingFrequency",)))
def json_rate_contradicts_the_file_alone(archive: Path) -> None:
    """The stated length agrees with the file's rate: the sidecar was copied from before resampling."""
    beside(archive, "eeg", sidecar(SamplingFrequency=1000))


@fault(Refused("SamplingFrequency"))
def json_rate_and_length_contradict_the_file(archive: Path) -> None:
    """Both sidecars contradict the file's rate; with a wrong rate, all frequencies and latencies are wrong."""
    beside(archive, "eeg", sidecar(SamplingFrequency=100, RecordingDuration=24))


@fault(Ready(notes=("EEGChannelCount",)))
def json_channel_count_contradicts_the_file(archive: Path) -> None:
    beside(archive, "eeg", sidecar(EEGChannelCount=64))


@fault(Ready(notes=("holds 12",)))
def json_length_contradicts_the_file(archive: Path) -> None:
    """The file is complete by its header; a sidecar may describe the session before it was cut."""
    beside(archive, "eeg", sidecar(RecordingDuration=600))


@fault(Ready())
def channels_in_another_order(archive: Path) -> None:
    beside(archive, "channels", table(channels()[::-1]))


@fault(Ready(notes=("are not in it",)))
def channels_fewer_than_in_the_file(archive: Path) -> None:
    beside(archive, "channels", table(channels()[:15]))


@fault(Ready(notes=("not in the file",)))
def channels_more_than_in_the_file(archive: Path) -> None:
    extra = {"name": "Oz", "type": "EEG", "units": "uV", "status": "good"}
    beside(archive, "channels", table([*channels(), extra]))


@fault(Ready(notes=("matched by order",)))
def channels_of_other_names_in_equal_number(archive: Path) -> None:
    rows = [row | {"name": f"E{i + 1}"} for i, row in enumerate(channels())]
    beside(archive, "channels", table(rows))


@fault(Ready(notes=("matched by order",), electrodes={f"Ch {i}": name for i, name in enumerate(NAMES)}))
def channels_named_in_the_table_alone(archive: Path) -> None:
    """The file's names carry no information; the table lists as many electrodes, in the file's order."""
    from tests.ingest.faults.headers import LABEL, set_field

    path = beside(archive, "channels", table(channels()))
    for i in range(len(NAMES)):
        set_field(path, LABEL, f"Ch {i}", (i,))


@fault(Refused("names none", file="sub-01_task-rest_channels.tsv"))
def channels_of_another_recording(archive: Path) -> None:
    rows = [{"name": f"MEG{i:04d}", "type": "MEGMAG", "units": "T", "status": "good"} for i in range(102)]
    beside(archive, "channels", table(rows))


@fault(Refused("twice", file="sub-01_task-rest_channels.tsv"))
def channels_named_twice_with_two_types(archive: Path) -> None:
    beside(archive, "channels", table([*channels(), channels()[0] | {"type": "EOG"}]))


@fault(Ready())
def channels_named_twice_alike(archive: Path) -> None:
    beside(archive, "channels", table([*channels(), channels()[0]]))


@fault(Ready(bad=("F3",)))
def channel_marked_bad(archive: Path) -> None:
    beside(archive, "channels", table(channels(F3={"status": "bad"})))


@fault(Refused("bad"))
def channels_all_marked_bad(archive: Path) -> None:
    beside(archive, "channels", table([row | {"status": "bad"} for row in channels()]))


@fault(Refused("no usable channel"))
def channels_all_typed_misc(archive: Path) -> None:
    beside(archive, "channels", table([row | {"type": "MISC"} for row in channels()]))


@fault(Ready(channels=17, dropped=("Fp1", "Fp2")))
def channels_that_are_eyes(archive: Path) -> None:
    beside(archive, "channels", table(channels(Fp1={"type": "EOG"}, Fp2={"type": "VEOG"})))


@fault(Ready())
def channels_absent_values_everywhere(archive: Path) -> None:
    beside(archive, "channels", table([dict.fromkeys(row, "n/a") | {"name": row["name"]} for row in channels()]))


@fault(Ready(notes=("the file says",)))
def channels_in_millivolts_the_file_in_microvolts(archive: Path) -> None:
    """The numbers were written in the unit that the file states."""
    beside(archive, "channels", table([row | {"units": "mV"} for row in channels()]))


@fault(Ready(notes=("unit of 19 channels",)))
def edf_without_units_and_the_table_has_them(archive: Path) -> None:
    from tests.ingest.faults.headers import UNIT, set_field

    path = beside(archive, "channels", table(channels()))
    set_field(path, UNIT, "", range(len(NAMES)))


@fault(Refused("column 'name'", file="sub-01_task-rest_channels.tsv"))
def channels_separated_by_spaces(archive: Path) -> None:
    beside(archive, "channels", table(channels(), "    "))


@fault(Refused("column 'name'", file="sub-01_task-rest_channels.tsv"))
def channels_separated_by_commas(archive: Path) -> None:
    beside(archive, "channels", table(channels(), ","))


@fault(Refused("fields under", file="sub-01_task-rest_channels.tsv"))
def channels_with_a_tab_too_many(archive: Path) -> None:
    beside(archive, "channels", table(channels()).replace("F3\tEEG", "F3\t\tEEG"))


@fault(Ready())
def channels_with_rows_cut_short(archive: Path) -> None:
    beside(archive, "channels", table(channels()).replace("O2\tEEG\tuV\tgood", "O2\tEEG"))


@fault(Ready(notes=("UTF-16",)))
def channels_in_utf_16(archive: Path) -> None:
    beside(archive, "channels", table(channels()).encode("utf-16"))


@fault(Ready(notes=("Latin-1",)))
def channels_in_latin_1(archive: Path) -> None:
    beside(archive, "channels", table([row | {"units": "µV"} for row in channels()]).encode("latin-1"))


@fault(Ready())
def channels_with_line_ends_of_old_systems(archive: Path) -> None:
    beside(archive, "channels", table(channels()).replace("\n", "\r"))


@fault(Ready(), source_events=len(LABELS))
def channels_table_empty(archive: Path) -> None:
    """An empty table is treated like a missing one."""
    beside(archive, "channels", "")


@fault(Refused("table", file="sub-01_task-rest_channels.tsv"))
def channels_table_that_is_binary(archive: Path) -> None:
    beside(archive, "channels", bytes(range(256)) * 20)
