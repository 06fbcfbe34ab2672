"""Wrong companions: data files, markers, second parts, and structures that contradict them."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.io
from tests.ingest.faults.corpus import Ready, Refused, fault
from tests.ingest.faults.intact import (
    FOLDER,
    NAMES,
    SFREQ,
    STEM,
    good,
    put,
    raw_eeg,
    set_fields,
    truth,
    write,
    write_set,
)

DATA = f"{STEM}.eeg"


def _header(archive: Path, change: Callable[[str], str]) -> Path:
    path = put(archive, "vhdr")
    path.write_text(change(path.read_text()))
    return path


@fault(Refused(f"names the data file {DATA}, which is absent"), extension="vhdr")
def data_file_missing(archive: Path) -> None:
    put(archive, "vhdr").with_suffix(".eeg").unlink()


@fault(Refused("old_name.eeg", more=("absent", DATA)), extension="vhdr")
def header_names_the_data_before_renaming(archive: Path) -> None:
    _header(archive, lambda text: text.replace(DATA, "old_name.eeg"))


@fault(
    {
        f"{FOLDER}/{STEM}.vhdr": Refused("outside", more=("DataFile",)),
        f"sub-02/{DATA}": Refused("BrainVision"),
    }
)
def header_names_data_of_another_subject(archive: Path) -> None:
    _header(archive, lambda text: text.replace(DATA, f"../../sub-02/{DATA}"))
    (archive / "sub-02").mkdir()
    shutil.copy(archive / FOLDER / DATA, archive / "sub-02" / DATA)


@fault(Refused("outside", more=("DataFile",)), extension="vhdr")
def header_names_data_outside_the_archive(archive: Path) -> None:
    put(archive.parent / "elsewhere", "vhdr")
    _header(archive, lambda text: text.replace(DATA, f"../../../elsewhere/{FOLDER}/{DATA}"))


@fault(Refused("outside", more=("DataFile",)), extension="vhdr")
def header_names_data_by_an_absolute_path(archive: Path) -> None:
    elsewhere = put(archive.parent / "elsewhere", "vhdr").with_suffix(".eeg")
    _header(archive, lambda text: text.replace(f"DataFile={DATA}", f"DataFile={elsewhere}"))


@fault(Refused("outside", more=("DataFile",)), extension="vhdr")
def header_names_data_on_another_system(archive: Path) -> None:
    _header(archive, lambda text: text.replace(f"DataFile={DATA}", rf"DataFile=C:\Daten\{DATA}"))


@fault(Refused("outside", more=("MarkerFile",)), extension="vhdr")
def header_names_markers_outside_the_archive(archive: Path) -> None:
    put(archive.parent / "elsewhere", "vhdr")
    _header(archive, lambda text: text.replace(f"{STEM}.vmrk", f"../../../elsewhere/{FOLDER}/{STEM}.vmrk"))


@fault(
    {
        f"{FOLDER}/{STEM}.vhdr": Ready(),
        f"{FOLDER}/sub-01_task-work_eeg.vhdr": Refused("another recording's", more=(DATA,)),
    }
)
def header_names_another_recordings_data(archive: Path) -> None:
    """The file's own data are beside it; the header comes from a copy."""
    put(archive, "vhdr")
    path = put(archive, "vhdr", stem="sub-01_task-work_eeg")
    path.write_text(path.read_text().replace("sub-01_task-work_eeg.eeg", DATA))


@fault(Refused("truncated"), extension="vhdr")
def data_file_cut_within_a_sample(archive: Path) -> None:
    path = put(archive, "vhdr").with_suffix(".eeg")
    path.write_bytes(path.read_bytes()[:-3])


@fault(Refused("empty"), extension="vhdr")
def data_file_empty(archive: Path) -> None:
    put(archive, "vhdr").with_suffix(".eeg").write_bytes(b"")


@fault(Refused("truncated", more=("1000000000",)), extension="vhdr")
def header_promises_a_thousand_million_points(archive: Path) -> None:
    _header(archive, lambda text: text.replace("NumberOfChannels", "DataPoints=1000000000\nNumberOfChannels"))


@fault(Refused("channels"), extension="vhdr")
def header_counts_more_channels_than_it_lists(archive: Path) -> None:
    _header(archive, lambda text: text.replace("NumberOfChannels=19", "NumberOfChannels=20"))


@fault(Refused("channels"), extension="vhdr")
def header_counts_fewer_channels_than_it_lists(archive: Path) -> None:
    """Nothing shows which channels are in the data; the sample frames would be misread."""
    _header(archive, lambda text: text.replace("NumberOfChannels=19", "NumberOfChannels=16"))


@fault(Refused("channels"), extension="vhdr")
def header_counts_no_channels(archive: Path) -> None:
    _header(archive, lambda text: text.replace("NumberOfChannels=19", "NumberOfChannels=0"))


@fault(Refused("SamplingInterval"), extension="vhdr")
def header_with_an_interval_of_zero(archive: Path) -> None:
    _header(archive, lambda text: text.replace("SamplingInterval=5000.0", "SamplingInterval=0"))


@fault(Refused("SamplingInterval"), extension="vhdr")
def header_with_a_negative_interval(archive: Path) -> None:
    _header(archive, lambda text: text.replace("SamplingInterval=5000.0", "SamplingInterval=-5000"))


@fault(Refused("SamplingInterval"), extension="vhdr")
def header_without_an_interval(archive: Path) -> None:
    _header(archive, lambda text: text.replace("SamplingInterval=5000.0", ""))


@fault(Refused("BinaryFormat"), extension="vhdr")
def header_with_an_unknown_number_format(archive: Path) -> None:
    _header(archive, lambda text: text.replace("IEEE_FLOAT_32", "FLOAT_16"))


@fault(Refused("median standard deviation"), extension="vhdr")
def header_says_integers_the_data_are_not(archive: Path) -> None:
    _header(archive, lambda text: text.replace("IEEE_FLOAT_32", "INT_16"))


@fault(Refused("too large"), extension="vhdr")
def header_in_volts_for_microvolts(archive: Path) -> None:
    _header(archive, lambda text: text.replace(",µV", ",V"))


@fault(Refused("header"), extension="vhdr")
def header_empty_but_for_its_title(archive: Path) -> None:
    _header(archive, lambda text: text.splitlines()[0] + "\n")


@fault(Refused("fdt"), extension="set")
def fdt_missing(archive: Path) -> None:
    put(archive, "fdt").with_suffix(".fdt").unlink()


@fault(Refused("truncated", more=(".fdt",)), extension="set")
def fdt_cut(archive: Path) -> None:
    path = put(archive, "fdt").with_suffix(".fdt")
    path.write_bytes(path.read_bytes()[:-100])


@fault(Refused("bytes", more=(".fdt",)), extension="set")
def fdt_of_a_longer_recording(archive: Path) -> None:
    """Twice the bytes: the samples of another recording, or of other channels."""
    path = put(archive, "fdt").with_suffix(".fdt")
    path.write_bytes(path.read_bytes() * 2)


@fault(Refused("outside"), extension="set")
def set_names_data_outside_the_archive(archive: Path) -> None:
    put(archive.parent / "elsewhere", "fdt")
    _set(archive, data=f"../../../elsewhere/{FOLDER}/{STEM}.fdt")


def _set(archive: Path, **changes: object) -> None:
    write_set(archive / FOLDER / f"{STEM}.set", set_fields(raw_eeg()) | changes)


@fault(Ready(), extension="set")
def set_in_one_file(archive: Path) -> None:
    """No fault: the reference for the others."""
    _set(archive)


@fault(Refused("rate"), extension="set")
def set_with_a_rate_of_zero(archive: Path) -> None:
    _set(archive, srate=0.0)


@fault(Refused("rate"), extension="set")
def set_with_a_negative_rate(archive: Path) -> None:
    _set(archive, srate=-SFREQ)


@fault(Refused("rate"), extension="set")
def set_with_a_rate_that_is_no_number(archive: Path) -> None:
    _set(archive, srate=np.nan)


@fault(Refused("rate"), extension="set")
def set_with_a_rate_of_a_megahertz(archive: Path) -> None:
    _set(archive, srate=1e6)


@fault(Refused("pnts"), extension="set")
def set_promises_a_thousand_million_points(archive: Path) -> None:
    _set(archive, pnts=1e9)


@fault(Refused("nbchan"), extension="set")
def set_counts_other_channels_than_its_data(archive: Path) -> None:
    _set(archive, nbchan=64.0)


def _set_of_epochs(archive: Path, n: int) -> None:
    length = truth().shape[1] // n
    data = (truth() * 1e6).astype(np.float32).reshape(len(NAMES), n, length).transpose(0, 2, 1)
    _set(archive, data=data, trials=float(n), pnts=float(length), xmin=0.0, xmax=(length - 1) / SFREQ)


@fault(Ready(notes=("6 stretches",)), extension="set")
def set_of_epochs_as_long_as_a_window(archive: Path) -> None:
    """Some published datasets have nothing else: each epoch is a segment of its own."""
    _set_of_epochs(archive, 6)


@fault(Refused("epochs", more=("1.2 s",)), extension="set")
def set_of_epochs_shorter_than_a_window(archive: Path) -> None:
    _set_of_epochs(archive, 10)


@fault(Refused("epochs"), extension="set")
def set_of_epochs_of_another_length_than_it_says(archive: Path) -> None:
    data = (truth() * 1e6).astype(np.float32).reshape(len(NAMES), 6, 400).transpose(0, 2, 1)
    _set(archive, data=data, trials=6.0, pnts=400.0, xmin=0.0, xmax=12.0)


@fault(Ready(events=7, lost=1, notes=("outside",)), extension="set")
def set_with_an_event_behind_the_end(archive: Path) -> None:
    events = set_fields(raw_eeg())["event"].copy()
    events["latency"][7] = 1e7
    _set(archive, event=events)


@fault(Refused("negative"), extension="set")
def set_with_an_event_before_the_beginning(archive: Path) -> None:
    """EEGLAB counts from 1: a list with a negative latency is damaged."""
    events = set_fields(raw_eeg())["event"].copy()
    events["latency"][0] = -50.0
    _set(archive, event=events)


@fault(Ready(events=7, lost=1, notes=("NaN",)), extension="set")
def set_with_an_event_at_no_number(archive: Path) -> None:
    """EEGLAB itself skips such events."""
    events = set_fields(raw_eeg())["event"].copy()
    events["latency"][3] = np.nan
    _set(archive, event=events)


@fault(Refused("EEGLAB"), extension="set")
def set_of_other_variables(archive: Path) -> None:
    (archive / FOLDER).mkdir(parents=True)
    scipy.io.savemat(archive / FOLDER / f"{STEM}.set", {"x": np.arange(10)}, appendmat=False)


@fault(Refused(f"{STEM}.set"), extension="set")
def set_cut(archive: Path) -> None:
    path = put(archive, "set")
    path.write_bytes(path.read_bytes()[:5000])


@fault(Refused("tag"), extension="fif")
def fif_cut(archive: Path) -> None:
    path = put(archive, "fif")
    path.write_bytes(path.read_bytes()[:100_000])


def _split(archive: Path) -> tuple[Path, Path]:
    raw = raw_eeg(np.tile(truth(), (1, 16)))
    write(raw, archive / FOLDER / "long_raw.fif", split_size="2MB", buffer_size_sec=1.0)
    return archive / FOLDER / "long_raw.fif", archive / FOLDER / "long_raw-1.fif"


LONG = f"{FOLDER}/long_raw.fif"


@fault({LONG: Ready(compared=False)})
def split_in_parts(archive: Path) -> None:
    """No fault: the reference for the others."""
    first, second = _split(archive)
    assert second.exists()
    del first


@fault({LONG: Refused("long_raw-1.fif")})
def split_second_part_missing(archive: Path) -> None:
    _split(archive)[1].unlink()


@fault({LONG: Refused("long_raw-1.fif"), f"{FOLDER}/part2_raw.fif": Refused("later part")})
def split_second_part_renamed(archive: Path) -> None:
    """Neither file is a whole recording, in spite of its name."""
    second = _split(archive)[1]
    second.rename(second.parent / "part2_raw.fif")


@fault({LONG: Refused("long_raw-1.fif")})
def split_second_part_of_another_recording(archive: Path) -> None:
    second = _split(archive)[1]
    write(raw_eeg(truth(7)), second.with_name("x_raw.fif"))
    second.with_name("x_raw.fif").replace(second)


@fault({f"{FOLDER}/rest_raw.fif": Ready(), f"{FOLDER}/rest_raw-1.fif": Ready(), f"{FOLDER}/rest_raw-2.fif": Ready()})
def numbered_recordings(archive: Path) -> None:
    """Complete recordings with names that MNE gives to parts of a recording."""
    for name in ("rest_raw.fif", "rest_raw-1.fif", "rest_raw-2.fif"):
        put(archive, "fif").rename(archive / FOLDER / name)


SPLIT = f"{FOLDER}/sub-01_task-rest_split-0{{}}_eeg.fif"


@fault({SPLIT.format(1): Refused("split-02")})
def complete_recordings_named_as_a_split(archive: Path) -> None:
    for i in (1, 2):
        put(archive, "fif").rename(archive / SPLIT.format(i))


@fault(
    {
        LONG: Refused("part_raw-1.fif"),
        f"{FOLDER}/part_raw-1.fif": Refused("later part"),
        f"{FOLDER}/part_raw-2.fif": Refused("later part"),
    }
)
def split_refers_to_a_file_of_another_name(archive: Path) -> None:
    """All parts are present, but the names of the later ones do not match the recording."""
    first, second = _split(archive)
    write(
        raw_eeg(np.tile(truth(), (1, 16))),
        archive / FOLDER / "part_raw.fif",
        split_size="2MB",
        buffer_size_sec=1.0,
    )
    (archive / FOLDER / "part_raw.fif").replace(first)
    second.unlink()


@fault(Refused("gzip"), extension="fif.gz")
def compressed_fif_cut(archive: Path) -> None:
    (archive / FOLDER).mkdir(parents=True)
    data = gzip.compress(good("fif")[".fif"], mtime=0)
    (archive / FOLDER / f"{STEM}.fif.gz").write_bytes(data[: len(data) // 2])


@fault(Ready(), extension="fif.gz")
def compressed_fif(archive: Path) -> None:
    (archive / FOLDER).mkdir(parents=True)
    (archive / FOLDER / f"{STEM}.fif.gz").write_bytes(gzip.compress(good("fif")[".fif"], mtime=0))
