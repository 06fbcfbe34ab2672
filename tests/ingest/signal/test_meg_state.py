"""Shielding, signal-space separation, rank, head position coils, empty rooms and contacts, in synthetic headers."""

import mne
import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.ingest.conftest import ingested
from tests.messages import check_message

from emeg.data.corpus.cutting import choose_recordings
from emeg.ingest.signal.meg_state import contents, find_state
from emeg.sensors import sensors_from_info
from emeg.store import catalog_table
from emeg.synthetic.devices import DEVICES, describe_sensors
from emeg.synthetic.people import draw_person

SFREQ = 300.0


def helmet(seconds=12.0, seed=0):
    """Noise of correlated sensors in a VectorView's helmet."""
    info = describe_sensors(DEVICES["vectorview306"], draw_person(0, n_subjects=1, seed=0), seed=0)
    with info._unlock():
        info["sfreq"], info["lowpass"] = SFREQ, SFREQ / 3
    rng = np.random.default_rng(seed)
    scale = np.array([2e-12 if kind == "grad" else 2e-13 for kind in info.get_channel_types()])
    source = rng.standard_normal((6, round(seconds * SFREQ)))
    mixed = rng.standard_normal((len(scale), 6)) @ source + rng.standard_normal((len(scale), source.shape[1]))
    return mne.io.RawArray(mixed * scale[:, None], info, verbose="ERROR")


def scalp(seconds, seed=0):
    """Noise with heavy tails, independent at nineteen electrodes."""
    rng = np.random.default_rng(seed)
    data = 1e-5 * rng.laplace(size=(19, round(seconds * 256)))
    return mne.io.RawArray(data, EEG19.copy(), verbose="ERROR")


def coils_on(raw, frequencies):
    """Mark the head position coils as switched on in the header."""
    coils = [{"number": i + 1, "coil_freq": f} for i, f in enumerate(frequencies)]
    with raw.info._unlock():
        raw.info["hpi_meas"] = [{"hpi_coils": coils}]
    return raw


@pytest.fixture(autouse=True)
def _archive(tmp_path):
    (tmp_path / "archive").mkdir()


def test_shielding_that_was_not_taken_out_is_refused_by_its_name(tmp_path):
    raw = helmet(4.0)
    with raw.info._unlock():
        raw.info["maxshield"] = True
    raw.save(tmp_path / "archive/run_raw.fif", verbose="ERROR")
    with pytest.raises(ValueError, match="Active Shielding"):  # the file is what MNE-Python takes for one
        mne.io.read_raw_fif(tmp_path / "archive/run_raw.fif", verbose="ERROR")
    made = ingested(tmp_path / "archive", tmp_path / "store")
    (refused,) = made.refused.values()
    check_message(refused, "MaxShield", action="standardise.cleaning.maxwell")
    assert not made.rows


def test_separation_rank_and_projectors_are_found(devices, shared):
    whole, separated = devices.rows["neuromag306-split"], devices.rows["neuromag306"]
    assert (whole.sss, separated.sss, separated.tsss) == (False, True, False)
    raw = mne.io.read_raw_fif(shared / "data/devices/neuromag306/sample_audvis_trunc_raw_sss.fif", verbose="ERROR")
    singular = np.linalg.svd(raw.get_data("meg", tmax=0.99) * 1e12, compute_uv=False)
    # what SSS left is seen in the data too: a fall by orders of magnitude after that many components
    n_meg = separated.rank - separated.n_eeg
    assert singular[n_meg - 1] > 1e3 * singular[n_meg]
    assert whole.rank == whole.n_channels
    assert whole.n_projectors == separated.n_projectors == 1


def test_temporal_and_spatial_separation_are_distinguished():
    raw = helmet(8.0)
    state = {}
    for window in (None, 4.0):
        made = mne.preprocessing.maxwell_filter(raw, (0, 0, 0.04), st_duration=window, verbose="ERROR")
        state[window] = find_state(made, np.arange(306), "x.fif")
    assert (state[None].sss, state[None].tsss) == (True, False)
    assert (state[4.0].sss, state[4.0].tsss) == (True, True)
    assert state[None].rank == np.linalg.matrix_rank(made.get_data() * 1e12, tol=1e-6)


def test_an_applied_projector_takes_one_from_the_rank():
    raw = mne.io.RawArray(np.zeros((4, 10)), mne.create_info(4, 100.0, "eeg"), verbose="ERROR")
    raw.set_eeg_reference("average", projection=True, verbose="ERROR")
    assert find_state(raw, np.arange(4), "x").rank == 4
    assert find_state(raw.apply_proj(verbose="ERROR"), np.arange(4), "x").rank == 3


def test_head_position_coils_are_found():
    assert find_state(helmet(1.0), np.arange(306), "x").hpi in {"", "before"}
    assert find_state(coils_on(helmet(1.0), (83.0, 143.0)), np.arange(306), "x").hpi == "continuous"
    ctf = mne.io.RawArray(np.zeros((2, 10)), mne.create_info(["MLC11", "HLC0011"], 100.0, "misc"), verbose="ERROR")
    assert find_state(ctf, np.arange(0, 1), "x").hpi == "continuous"


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("opm-cerca/noise_raw.fif", "empty room"),
        ("s1/sample_ernoise_er_raw.fif", "empty room"),
        ("sub-01/meg/sub-01_task-emptyroom_meg.fif", "empty room"),
        ("Empty-Room_20200101.fif", "empty room"),
        ("phantom/sub-01_task-rest_meg.fif", "brain"),
        ("dipole_05nAm_phantom.ds", "phantom"),
        ("sub-01_task-rest_acq-noisy_eeg.edf", "brain"),
        ("sub-er01_task-perceiver_eeg.edf", "brain"),
    ],
)
def test_empty_rooms_and_phantoms_are_known_by_whole_words_of_their_names(path, what):
    assert contents(path) == what


def test_an_empty_room_is_catalogued_and_stays_out_of_a_corpus(tmp_path):
    for name in ("a_raw.fif", "noise_raw.fif"):
        scalp(10.0, seed=len(name)).save(tmp_path / "archive" / name, verbose="ERROR")
    made = ingested(tmp_path / "archive", tmp_path / "store")
    rows = {row.source: row for row in made.rows.values()}
    assert {source: row.contents for source, row in rows.items()} == {"noise_raw.fif": "empty room"} | {
        "a_raw.fif": "brain"
    }
    assert [row.source for row in choose_recordings(made.store, [], [], [])] == ["a_raw.fif"]


def test_a_catalogue_from_before_these_columns_reads_with_their_defaults(tmp_path):
    scalp(10.0).save(tmp_path / "archive/a_raw.fif", verbose="ERROR")
    made = ingested(tmp_path / "archive", tmp_path / "store")
    (path,) = (tmp_path / "store/catalog/recordings").iterdir()
    young = ["tsss", "rank", "internal_shielding", "hpi", "contents"]
    pq.write_table(pq.read_table(path).drop_columns(young), path)
    (old,) = catalog_table(made.store).select(young).to_pylist()
    assert old == {"tsss": False, "rank": 0, "internal_shielding": False, "hpi": "", "contents": "brain"}


def test_ctf_channels_called_eeg_without_a_place_on_the_scalp_are_dropped():
    names = ["MLC11-2908", *(f"EEG{i:03d}-2908" for i in range(1, 5))]
    info = mne.create_info(names, 600.0, ["mag"] + ["eeg"] * 4)
    info["chs"][0].update(coil_type=5001, coord_frame=1, loc=np.r_[0.0, 0.05, 0.1, np.eye(3).ravel()])
    info["chs"][1]["loc"][:3] = info["chs"][2]["loc"][:3] = 0.0
    picked = sensors_from_info(info)
    assert picked.sensors.names == ("MLC11-2908",)
    assert set(picked.dropped) == set(names[1:])


@pytest.mark.parametrize("kind", ["seeg", "ecog", "dbs"])
def test_contacts_in_the_brain_are_never_scalp_electrodes_even_with_their_names(kind):
    names = ["C3", "C4", "Cz", "F3"]
    info = mne.create_info(names, 600.0, kind)
    picked = sensors_from_info(info)
    assert not len(picked.sensors)
    assert set(picked.dropped) == set(names)


def test_contacts_called_eeg_that_count_on_along_a_shaft_are_not_scalp_electrodes():
    names = [f"{shaft}{i}" for shaft in ("F", "O", "LA", "RH") for i in range(1, 13)]
    assert not len(sensors_from_info(mne.create_info(names, 600.0, "eeg")).sensors)


EEG19 = mne.create_info(mne.channels.make_standard_montage("colin27_1020").ch_names[:19], 256.0, "eeg")
EEG19.set_montage("colin27_1020", on_missing="ignore")
