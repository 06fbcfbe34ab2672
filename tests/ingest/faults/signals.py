"""Faults of the signal itself."""

from pathlib import Path

import mne
import numpy as np
from tests.ingest.faults.corpus import Ready, Refused, fault
from tests.ingest.faults.intact import FOLDER, NAMES, STEM, put, raw_eeg, raw_meg, truth, write


def _write(archive: Path, data: np.ndarray, extension: str = "fif") -> None:
    write(raw_eeg(data), archive / FOLDER / f"{STEM}.{extension}")


@fault(Refused("NaN", more=("'Fz'",)), extension="fif")
def signal_with_nan(archive: Path) -> None:
    data = truth().copy()
    data[4, 900:905] = np.nan
    _write(archive, data)


@fault(Refused("infinite", more=("'Fz'",)), extension="fif")
def signal_with_infinity(archive: Path) -> None:
    data = truth().copy()
    data[4, 900] = np.inf
    _write(archive, data)


@fault(Refused("NaN"), extension="fif")
def signal_all_nan(archive: Path) -> None:
    _write(archive, np.full_like(truth(), np.nan))


@fault(Ready(bad=("P3",)))
def channel_flat(archive: Path) -> None:
    data = truth().copy()
    data[NAMES.index("P3")] = 2e-5
    _write(archive, data, "edf")


@fault(Refused("all 19 channels are flat"), extension="vhdr")
def signal_all_flat(archive: Path) -> None:
    _write(archive, np.zeros_like(truth()), "vhdr")


@fault(Ready(bad=("P3",)))
def channel_a_hundred_times_too_large(archive: Path) -> None:
    data = truth().copy()
    data[NAMES.index("P3")] *= 100
    _write(archive, data, "edf")


@fault(Ready(bad=("C4",)))
def channel_of_an_open_lead(archive: Path) -> None:
    """White noise with three times the amplitude of the others: no brain signal."""
    data = truth().copy()
    data[NAMES.index("C4")] = 3e-5 * np.random.default_rng(5).standard_normal(data.shape[1])
    _write(archive, data, "edf")


@fault(Ready(compared=False), extension="vhdr")
def signal_clipped(archive: Path) -> None:
    """A channel that is at the amplifier's limit at times is marked in these seconds, not dropped."""
    data = truth().copy()
    data[9] = np.clip(data[9], -8e-6, 8e-6)
    _write(archive, data, "vhdr")


@fault(Ready(compared=False, notes=("same signal",)), extension="vhdr")
def signal_the_same_in_all_channels(archive: Path) -> None:
    _write(archive, np.repeat(truth()[:1], len(NAMES), axis=0), "vhdr")


@fault(Ready(), extension="vhdr")
def signal_on_an_offset_of_a_third_of_a_volt(archive: Path) -> None:
    """Direct-coupled amplifiers have one; the pass band removes it."""
    _write(archive, truth() + 0.3, "vhdr")


@fault(Refused("too large by a factor near 1,000,000"), extension="fif")
def fif_in_microvolts_said_to_be_volts(archive: Path) -> None:
    _write(archive, truth() * 1e6)


@fault(Refused("too small by a factor near 1,000"), extension="fif")
def fif_in_kilovolts(archive: Path) -> None:
    _write(archive, truth() * 1e-3)


@fault(Ready(channels=64, compared=False), extension="fif")
def meg_as_it_should_be(archive: Path) -> None:
    """No fault: the reference for the other faults of the helmet."""
    put(archive, "meg")


@fault(Refused("too large"), extension="fif")
def meg_in_femtotesla_said_to_be_tesla(archive: Path) -> None:
    raw = raw_meg()
    raw._data *= 1e15
    write(raw, archive / FOLDER / f"{STEM}.fif")


@fault(Refused("too small"), extension="fif")
def meg_without_a_field(archive: Path) -> None:
    raw = raw_meg()
    raw._data *= 1e-6
    write(raw, archive / FOLDER / f"{STEM}.fif")


@fault(Refused("another quantity"), extension="fif")
def meg_magnetometers_in_tesla_per_metre(archive: Path) -> None:
    raw = raw_meg()
    for channel in raw.info["chs"]:
        channel["unit"] = 201
    write(raw, archive / FOLDER / f"{STEM}.fif")


@fault(Refused("No raw data"), extension="fif")
def fif_of_epochs_named_as_raw_data(archive: Path) -> None:
    epochs = mne.make_fixed_length_epochs(raw_eeg(), 2.0, preload=True, verbose="ERROR")
    (archive / FOLDER).mkdir(parents=True)
    epochs.save(archive / FOLDER / "x-epo.fif", verbose="ERROR")
    (archive / FOLDER / "x-epo.fif").rename(archive / FOLDER / f"{STEM}.fif")


@fault(Ready(bad=("Pz",)), extension="fif")
def fif_with_a_bad_channel_in_its_own_list(archive: Path) -> None:
    raw = raw_eeg()
    raw.info["bads"] = ["Pz"]
    write(raw, archive / FOLDER / f"{STEM}.fif")


@fault({f"sub-0{i}/eeg/sub-0{i}_task-rest_eeg.edf": Ready() for i in (1, 2)})
def copy_under_another_subject(archive: Path) -> None:
    """Each is a good recording; fingerprints must find that they are copies."""
    for i in (1, 2):
        put(archive, "edf", stem=f"sub-0{i}_task-rest_eeg", folder=f"sub-0{i}/eeg")
