"""Sensors of real recordings from many devices: counts, units, positions and orientations equal those in the files."""

from collections import Counter

import mne
import numpy as np
import pytest
from tests.messages import refusal

from emeg.errors import RecordingError
from emeg.sensors import SensorType, check_geometry, sensors_from_info

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

EEG, MAG, GRAD = SensorType.EEG, SensorType.MAGNETOMETER, SensorType.GRADIOMETER

READERS = {
    "ant-duke": ("read_raw_ant", "test-na-271.cnt", {}),
    "ant-waveguard": ("read_raw_ant", "test_CA_208.cnt", {}),
    "biosemi": ("read_raw_bdf", "test.bdf", {}),
    "brainvision": ("read_raw_brainvision", "test.vhdr", {}),
    "brainvision-old": ("read_raw_brainvision", "test_old_layout_latin1_software_filter.vhdr", {}),
    "bti248": (
        "read_raw_bti",
        "test_pdf_linux",
        {"config_fname": "test_config_linux", "head_shape_fname": "test_hs_linux"},
    ),
    "ctf275": ("read_raw_fif", "test_ctf_comp_raw.fif", {}),
    "edf-bci2000-128hz": ("read_raw_edf", "test_edf_overlapping_annotations.edf", {}),
    "edf-biosemi": ("read_raw_edf", "test.edf", {}),
    "edf-bipolar": ("read_raw_edf", "double_banana.edf", {}),
    "edf-duplicate-names": ("read_raw_edf", "duplicate_channel_labels.edf", {}),
    "edf-mixed-names": ("read_raw_edf", "test_edf_stim_channel.edf", {}),
    "eeglab": ("read_raw_eeglab", "eeglab_data.set", {}),
    "egi-mff": ("read_raw_egi", "example_3.mff", {}),
    "egi-raw": ("read_raw_egi", "test_egi.raw", {}),
    "gtec-fif": ("read_raw_fif", "record-[2012.07.06-19.02.16]_raw.fif", {}),
    "gtec-gdf": ("read_raw_gdf", "record-[2012.07.06-19.02.16].gdf", {}),
    "kit157": ("read_raw_kit", "test.sqd", {"mrk": "test_mrk.sqd", "elp": "test_elp.txt", "hsp": "test_hsp.txt"}),
    "neuromag306": ("read_raw_fif", "sample_audvis_trunc_raw_sss.fif", {}),
    "nicolet": ("read_raw_nicolet", "test_nicolet_raw.data", {"ch_type": "eeg"}),
    "opm-cerca": ("read_raw_fif", "noise_raw.fif", {}),
}


@pytest.fixture(scope="module")
def info(shared):
    cache = {}

    def read(device):
        if device not in cache:
            reader, name, arguments = READERS[device]
            folder = shared / "data" / "devices" / device
            files = {k: v if k == "ch_type" else str(folder / v) for k, v in arguments.items()}
            cache[device] = getattr(mne.io, reader)(str(folder / name), **files, verbose="error").info
        return cache[device]

    return read


@pytest.mark.parametrize(
    ("device", "counts"),
    [
        ("ant-duke", {}),
        ("ant-waveguard", {(EEG, "V", 1): 63}),
        ("biosemi", {(EEG, "V", 1): 66}),
        ("brainvision", {(EEG, "V", 1): 26}),
        ("brainvision-old", {(EEG, "V", 1): 25}),
        ("bti248", {(MAG, "T", 4001): 248}),
        ("ctf275", {(GRAD, "T", 5001): 274}),
        ("edf-bci2000-128hz", {(EEG, "V", 1): 64}),
        ("edf-biosemi", {}),
        ("edf-bipolar", {}),
        ("edf-duplicate-names", {(EEG, "V", 1): 1}),
        ("edf-mixed-names", {(EEG, "V", 1): 19}),
        ("eeglab", {}),
        ("egi-mff", {(EEG, "V", 1): 256}),
        ("egi-raw", {(EEG, "V", 1): 256}),
        ("gtec-gdf", {(EEG, "V", 1): 8}),
        ("kit157", {(GRAD, "T", 6001): 157}),
        ("neuromag306", {(GRAD, "T/m", 3012): 204, (MAG, "T", 3024): 102, (EEG, "V", 1): 60}),
        ("nicolet", {(EEG, "V", 1): 19}),
        ("opm-cerca", {}),
    ],
)
def test_types_units_and_counts(info, device, counts):
    found = info(device)
    sensors, picks, dropped = sensors_from_info(found)
    kinds = zip(map(SensorType, sensors.types.tolist()), sensors.units, sensors.coils.tolist(), strict=True)
    assert Counter(kinds) == counts
    assert [found.ch_names[i] for i in picks] == list(sensors.names)
    assert sorted(picks) == list(picks)
    assert set(sensors.names) | set(dropped) == set(found.ch_names)
    assert not set(sensors.names) & set(dropped)
    check_geometry(sensors)


@pytest.mark.parametrize(
    ("device", "name", "word"),
    [
        ("ant-duke", "F3", "8 of 126"),
        ("ant-duke", "LE1", "8 of 126"),
        ("ant-waveguard", "EOG", "eye"),
        ("biosemi", "REOG", "eye"),
        ("biosemi", "EXG8", "auxiliary"),
        ("brainvision-old", "HEOGli", "eye"),
        ("bti248", "RFG 001", "reference"),
        ("ctf275", "BG1-2908", "reference"),
        ("edf-biosemi", "A1", "20 of 136"),
        ("edf-biosemi", "C3", "20 of 136"),
        ("edf-bipolar", "Fp1-F7", "derivation"),
        ("edf-duplicate-names", "EEG F1-Ref-0", "which is which"),
        ("edf-mixed-names", "REF_EEG REF_EEG", "reference"),
        ("edf-mixed-names", "DIG DTRIG", "trigger"),
        ("eeglab", "EEG 007", "no standard electrode"),
        ("egi-mff", "VREF", "reference"),
        ("egi-mff", "ECG", "neither EEG nor MEG"),
        ("kit157", "MEG 158", "reference"),
        ("nicolet", "SP1", "no standard electrode"),
        ("nicolet", "ECG", "heart"),
        ("opm-cerca", "BB_Z", "no position"),
    ],
)
def test_what_is_left_out_has_its_reason(info, device, name, word):
    assert word in sensors_from_info(info(device)).dropped[name]


# Figures read from the files: coil centre, and third (planar: first) local axis, device coordinates, metres.
FIRST_COILS = [
    ("neuromag306", "MEG 0113", [-0.1066, 0.0464, -0.0604], [-0.021892, 0.007476, -0.999732]),
    ("neuromag306", "MEG 0112", [-0.1066, 0.0464, -0.0604], [-0.192613, -0.981280, -0.003192]),
    ("neuromag306", "MEG 0111", [-0.1066, 0.0464, -0.0604], [-0.981020, 0.192489, 0.022924]),
    ("ctf275", None, [-0.011208, 0.066410, 0.077882], [-0.041010, 0.408719, 0.911738]),
    ("kit157", "MEG 001", [0.068018, -0.101518, 0.020926], [0.661125, -0.734050, 0.155189]),
    ("bti248", None, [0.000665, 0.020744, 0.111994], [0.018970, -0.004583, 0.999810]),
]


@pytest.mark.parametrize(("device", "name", "position", "orientation"), FIRST_COILS)
def test_place_and_orientation_of_a_coil(info, device, name, position, orientation):
    sensors = sensors_from_info(info(device)).sensors
    i = 0 if name is None else sensors.names.index(name)
    np.testing.assert_allclose(sensors.positions[i], position, atol=1e-6)
    np.testing.assert_allclose(sensors.orientations[i], orientation, atol=2e-6)


@pytest.mark.parametrize("device", ["neuromag306", "ctf275", "kit157", "bti248"])
@pytest.mark.parametrize("frame", ["device", "head"])
def test_orientations_are_what_the_coils_integrate(info, device, frame):
    """Compare the axes with MNE's forward model, which computes fields from integration points of each coil.

    A magnetometer's or axial gradiometer's axis is the normal at its points; a planar gradiometer's is the direction
    from its negative to its positive loop.
    """
    from mne.forward._make_forward import _create_meg_coils, _read_coil_defs

    found = info(device)
    sensors, picks, _ = sensors_from_info(found, meg_frame=frame)
    meg = np.flatnonzero(~sensors.is_eeg)
    transform = found["dev_head_t"] if frame == "head" else None
    coils = _create_meg_coils([found["chs"][picks[i]] for i in meg], "normal", transform, coilset=_read_coil_defs())
    for i, coil in zip(meg, coils, strict=True):
        planar = sensors.coils[i] == 3012
        axis = coil["w"] @ coil["rmag"] if planar else coil["cosmag"].mean(axis=0)
        np.testing.assert_allclose(axis / np.linalg.norm(axis), sensors.orientations[i], atol=2e-4)
        np.testing.assert_allclose(coil["r0"], sensors.positions[i], atol=1e-6)
    assert sensors.meg_frame == frame
    check_geometry(sensors)


def test_digitised_electrodes_are_where_the_file_has_them(info):
    sensors = sensors_from_info(info("neuromag306")).sensors
    first = sensors.names.index("EEG 001")
    np.testing.assert_allclose(sensors.positions[first], [-0.037370, 0.105680, 0.073339], atol=1e-6)
    np.testing.assert_array_equal(sensors.orientations[sensors.is_eeg], 0)
    egi = sensors_from_info(info("egi-mff")).sensors
    np.testing.assert_allclose(egi.positions[0], [0.069620, 0.051747, 0.009101], atol=1e-6)
    # E31 is at the nasion of this net, which is on the y axis of head coordinates.
    np.testing.assert_allclose(egi.positions[egi.names.index("E31")], [0.0, 0.1028, 0.0], atol=1e-4)


def test_a_net_known_by_its_numbers_lies_near_a_recorded_one(info):
    recorded = sensors_from_info(info("egi-mff")).sensors
    by_name = sensors_from_info(info("egi-raw")).sensors
    assert recorded.names == by_name.names
    distance = np.linalg.norm(recorded.positions - by_name.positions, axis=1)
    assert np.median(distance) < 0.01


def test_one_helmet_is_one_layout_and_digitised_heads_are_several(info):
    meg = sensors_from_info(info("neuromag306")).sensors
    again = sensors_from_info(info("neuromag306")).sensors
    assert meg.layout_id == again.layout_id
    assert meg.layout_id != sensors_from_info(info("neuromag306"), meg_frame="head").sensors.layout_id
    eight = sensors_from_info(info("gtec-gdf")).sensors
    assert eight.layout_id == sensors_from_info(mne.create_info(list(eight.names), 256.0, "eeg")).sensors.layout_id


def test_positions_in_millimetres_are_refused_as_such(info):
    sensors = sensors_from_info(info("gtec-fif")).sensors
    with refusal(RecordingError, "113.8 m", "millimetres", action="electrodes.tsv") as caught:
        check_geometry(sensors)
    assert caught.value.stage == "sensors"
    assert caught.value.next_action
