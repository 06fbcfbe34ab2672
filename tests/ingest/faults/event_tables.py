"""Faults of events: outside the data, unsorted, without times, of another recording, or contradictory."""

from pathlib import Path

from tests.ingest.faults.corpus import Ready, Refused, fault
from tests.ingest.faults.intact import FOLDER, LABELS, ONSETS_S, SFREQ, put
from tests.ingest.faults.sidecars import PREFIX, beside, table


def events(**columns: list[str]) -> list[dict[str, str]]:
    """List the eight events as in the file, except `columns`."""
    right = {
        "onset": [f"{t:.3f}" for t in ONSETS_S],
        "duration": ["0.5"] * len(ONSETS_S),
        "trial_type": list(LABELS),
        "sample": [str(round(t * SFREQ)) for t in ONSETS_S],
    }
    full = right | columns
    return [dict(zip(full, values, strict=True)) for values in zip(*full.values(), strict=True)]


def _beside(archive: Path, rows: list[dict[str, str]]) -> None:
    beside(archive, "events", table(rows))


@fault(Ready(events=7, lost=1, notes=("outside",)))
def event_behind_the_end(archive: Path) -> None:
    _beside(archive, events(onset=[*[f"{t}" for t in ONSETS_S[:-1]], "12.0"]))


@fault(Ready(events=7, lost=1, notes=("outside",)))
def event_before_the_beginning(archive: Path) -> None:
    _beside(archive, events(onset=["-0.5", *[f"{t}" for t in ONSETS_S[1:]]]))


@fault(Ready())
def events_out_of_order(archive: Path) -> None:
    _beside(archive, [events()[i] for i in (3, 1, 0, 7, 2, 6, 5, 4)])


@fault(Ready(events=6, lost=2, notes=("no onset",)))
def events_without_onset(archive: Path) -> None:
    _beside(archive, events(onset=["NaN", "n/a", *[f"{t}" for t in ONSETS_S[2:]]]))


@fault(Ready())
def events_without_duration(archive: Path) -> None:
    _beside(archive, events(duration=["n/a", "", "NaN", "-1", "inf", "long", "0", "n/a"]))


@fault(Ready(notes=("decimal comma",)))
def events_with_decimal_commas(archive: Path) -> None:
    """A spreadsheet with a decimal comma wrote them; in a table separated by tabs a comma has no other meaning."""
    _beside(archive, [row | {"onset": row["onset"].replace(".", ",")} for row in events()])


@fault(Refused("milliseconds", file="sub-01_task-rest_events.tsv"))
def events_in_milliseconds(archive: Path) -> None:
    _beside(archive, events(onset=[f"{t * 1000:g}" for t in ONSETS_S]))


@fault(Refused("samples", file="sub-01_task-rest_events.tsv"))
def events_in_samples(archive: Path) -> None:
    _beside(archive, events(onset=[f"{t * SFREQ:g}" for t in ONSETS_S]))


@fault(Refused("outside", file="sub-01_task-rest_events.tsv"))
def events_of_a_longer_recording(archive: Path) -> None:
    """Most lie after the end, so the first two belong to another recording as well."""
    _beside(archive, events(onset=[f"{3 + 17.3 * i:g}" for i in range(8)]))


@fault(Ready(notes=("sample",)))
def events_whose_samples_contradict_their_onsets(archive: Path) -> None:
    """BIDS counts the onset; samples are often those of the rate before resampling."""
    _beside(archive, events(sample=[str(round(t * 5 * SFREQ)) for t in ONSETS_S]))


@fault(Ready(notes=("no rows",)))
def events_table_without_rows(archive: Path) -> None:
    """The file has its own markers; an empty table does not remove them."""
    beside(archive, "events", "onset\tduration\ttrial_type\n")


@fault(Ready(notes=("no rows",)))
def events_table_empty(archive: Path) -> None:
    beside(archive, "events", "")


@fault(Refused("column 'onset'", file="sub-01_task-rest_events.tsv"))
def events_without_a_column_of_onsets(archive: Path) -> None:
    beside(archive, "events", table([{"time": row["onset"]} for row in events()]))


@fault(Refused("column 'onset'", file="sub-01_task-rest_events.tsv"))
def events_separated_by_commas(archive: Path) -> None:
    beside(archive, "events", table(events(), ","))


@fault(Ready(notes=("no row has an onset; 8 events found in the file itself",)))
def events_with_no_onset_at_all(archive: Path) -> None:
    """A table without times is treated like one without rows: the file's own events count."""
    _beside(archive, events(onset=["n/a"] * 8))


@fault(Ready(notes=("UTF-16",)))
def events_in_utf_16(archive: Path) -> None:
    beside(archive, "events", table(events()).encode("utf-16"))


@fault(Ready())
def events_with_spaces_around_their_fields(archive: Path) -> None:
    _beside(archive, [{f" {k} ": f" {v}  " for k, v in row.items()} for row in events()])


@fault(Ready(), extension="vhdr")
def events_of_markers_alone(archive: Path) -> None:
    put(archive, "vhdr")


@fault(Ready(events=8, lost=2, notes=("outside",)), extension="vhdr", source_events=10)
def markers_behind_the_end(archive: Path) -> None:
    path = put(archive, "vhdr").with_suffix(".vmrk")
    text = path.read_text().rstrip()
    path.write_text(f"{text}\nMk9=Stimulus,S  1,2401,1,0\nMk10=Stimulus,S  2,999999999,1,0\n")


@fault(Ready(events=7, lost=1, notes=("outside",)), extension="vhdr")
def marker_before_the_beginning(archive: Path) -> None:
    path = put(archive, "vhdr").with_suffix(".vmrk")
    path.write_text(path.read_text().replace(",left,201,", ",left,-7,", 1))


@fault(Refused("sub-01_task-rest_eeg.vmrk"), extension="vhdr")
def markers_missing(archive: Path) -> None:
    """Nothing else holds the events: without the marker file they would be lost without a message."""
    put(archive, "vhdr").with_suffix(".vmrk").unlink()


@fault(Ready(notes=("sub-01_task-rest_eeg.vmrk",)), extension="vhdr")
def markers_missing_beside_an_events_table(archive: Path) -> None:
    put(archive, "vhdr").with_suffix(".vmrk").unlink()
    (archive / FOLDER / f"{PREFIX}_events.tsv").write_text(table(events()))


@fault(Refused("sub-01_task-rest_eeg.vmrk"), extension="vhdr")
def markers_empty(archive: Path) -> None:
    put(archive, "vhdr").with_suffix(".vmrk").write_bytes(b"")


@fault(Refused("sub-01_task-rest_eeg.vmrk"), extension="vhdr")
def markers_without_positions(archive: Path) -> None:
    path = put(archive, "vhdr").with_suffix(".vmrk")
    path.write_text(path.read_text().replace(",201,", ",,", 1))
