"""Standard positions of electrodes by name."""

import mne
import numpy as np
import pytest
from tests.messages import refusal

from emeg.errors import UserError
from emeg.sensors.electrode_positions import numbered_cap, place_electrodes, template_positions

BANKS = {n: [f"{bank}{i}" for bank in "ABCDEFGH"[:n] for i in range(1, 33)] for n in (1, 2, 4, 5, 8)}
TEN_TWENTY = ["Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T3", "C3", "Cz", "C4", "T4", "T5", "P3", "Pz", "P4", "T6"]
TEN_TWENTY += ["O1", "O2"]


def by_mne(montage, names):
    info = mne.create_info(list(names), 256.0, "eeg")
    info.set_montage(montage)
    return {channel["ch_name"]: channel["loc"][:3] for channel in info["chs"]}


def test_standard_places_are_those_that_set_montage_gives():
    expected = by_mne("colin27_1005", TEN_TWENTY)
    placed = place_electrodes([f"EEG {name}" for name in TEN_TWENTY])
    assert not placed.dropped
    for name in TEN_TWENTY:
        np.testing.assert_allclose(placed.positions[f"EEG {name}"], expected[name], atol=1e-9)
    # Head coordinates: x to the right ear, y to the nose, z up, origin between the ears; Colin27, 0.1 mm.
    np.testing.assert_allclose(placed.positions["EEG Cz"], [-0.0014, 0.0276, 0.1402], atol=1e-4)
    np.testing.assert_allclose(placed.positions["EEG T3"], [-0.0860, 0.0149, 0.0312], atol=1e-4)


def test_the_old_name_of_the_template_is_understood_without_a_warning():
    old, new = template_positions("standard_1005"), template_positions("colin27_1005")
    assert list(old) == list(new)
    np.testing.assert_array_equal(list(old.values()), list(new.values()))


def test_an_unknown_montage_is_the_callers_mistake():
    with refusal(UserError, "'biosemi65'", action="biosemi64"):
        place_electrodes(TEN_TWENTY, "biosemi65")


@pytest.mark.parametrize(("n_banks", "cap"), [(4, "biosemi128"), (5, "biosemi160"), (8, "biosemi256")])
def test_a_complete_biosemi_cap_is_recognised(n_banks, cap):
    names = BANKS[n_banks]
    placed = place_electrodes(names)
    expected = by_mne(cap, names)
    assert placed.template == cap
    assert set(placed.positions) == set(names)
    for name in ("A1", "C3", names[-1]):
        np.testing.assert_allclose(placed.positions[name], expected[name], atol=1e-9)
    # A1 is the vertex there, not an earlobe.
    assert np.linalg.norm(placed.positions["A1"][:2]) < 1e-3
    assert placed.positions["A1"][2] > 0.13


@pytest.mark.parametrize("names", [BANKS[1], BANKS[2], BANKS[4][:-1], [n for n in BANKS[5] if n != "C3"]])
def test_an_incomplete_numbered_cap_is_not_guessed(names):
    placed = place_electrodes(names)
    assert not placed.positions
    assert set(placed.dropped) == set(names)


@pytest.mark.parametrize(("n_banks", "cap"), [(1, "biosemi32"), (2, "biosemi64")])
def test_a_small_biosemi_cap_is_recognised_where_the_amplifier_is_known(n_banks, cap):
    import mne

    from emeg.sensors import sensors_from_info

    names = BANKS[n_banks]
    order = mne.channels.make_standard_montage(cap).ch_names
    expected = by_mne(cap, order)
    info = mne.create_info([*names, "EXG1", "Status"], 512.0, ["eeg"] * (len(names) + 1) + ["stim"])
    picked = sensors_from_info(info)
    assert picked.sensors.names == tuple(names)
    for place, name in zip(picked.sensors.positions, order, strict=True):
        np.testing.assert_allclose(place, expected[name], atol=1e-9)
    grid = sensors_from_info(mne.create_info(list(names), 512.0, "eeg"))  # of 32 contacts, for all that is known
    assert not len(grid.sensors)


def test_a_given_montage_places_the_numbered_channels_of_a_64_cap_in_its_order():
    placed = place_electrodes(BANKS[2], "biosemi64")
    expected = by_mne("biosemi64", ["Fp1", "AF7", "CPz", "Fpz", "O2"])
    for recorded, name in {"A1": "Fp1", "A2": "AF7", "A32": "CPz", "B1": "Fpz", "B32": "O2"}.items():
        np.testing.assert_allclose(placed.positions[recorded], expected[name], atol=1e-9)


def test_earlobes_stay_earlobes_beside_ten_twenty_names_whatever_the_montage():
    placed = place_electrodes([*TEN_TWENTY, "A1", "A2"], "biosemi64")
    assert set(placed.positions) == set(TEN_TWENTY)
    assert placed.dropped == dict.fromkeys(["A1", "A2"], "not in the montage biosemi64")


def test_a_montage_of_another_device_does_not_hijack_ten_twenty_names():
    placed = place_electrodes([*TEN_TWENTY, "A1", "A2"], "biosemi128")
    assert placed.template == "colin27_1005"
    assert len(placed.positions) == 21


@pytest.mark.parametrize(
    ("names", "cap"),
    [
        ([f"E{i}" for i in range(1, 129)], "GSN-HydroCel-128"),
        ([f"E{i}" for i in range(1, 130)], "GSN-HydroCel-129"),
        ([*(f"E{i:03d}" for i in range(1, 129)), "Cz"], "GSN-HydroCel-129"),
        ([f"E{i}" for i in range(1, 257)], "GSN-HydroCel-256"),
        ([f"E{i}" for i in range(1, 258)], "GSN-HydroCel-257"),
        ([f"E{i}" for i in range(1, 128)], None),
        ([f"E{i}" for i in range(2, 130)], None),
        ([f"E{i}" for i in range(1, 33)], None),
        ([f"EEG {i:03d}" for i in range(1, 129)], None),
    ],
)
def test_hydrocel_nets_by_their_complete_numbers(names, cap):
    assert numbered_cap(names) == cap
    placed = place_electrodes(names)
    if cap is None:
        assert not placed.positions
    else:
        assert len(placed.positions) == len(names)


def test_the_vertex_reference_of_a_hydrocel_net_is_its_last_number():
    names = [f"E{i}" for i in range(1, 130)]
    np.testing.assert_allclose(place_electrodes(names).positions["E129"], by_mne("GSN-HydroCel-129", ["Cz"])["Cz"])


def test_plain_numbers_are_placed_by_a_given_montage_only():
    names = [f"EEG {i:03d}" for i in range(1, 129)]
    placed = place_electrodes(names, "GSN-HydroCel-128")
    np.testing.assert_allclose(placed.positions["EEG 005"], by_mne("GSN-HydroCel-128", ["E5"])["E5"], atol=1e-9)
    assert len(placed.positions) == 128


def test_repeated_electrodes_are_all_dropped():
    placed = place_electrodes(["EEG F1-Ref-0", "EEG F2-Ref", "EEG F1-Ref-1"])
    assert set(placed.positions) == {"EEG F2-Ref"}
    assert "which is which" in placed.dropped["EEG F1-Ref-0"]
    assert set(place_electrodes(["T3", "T7", "Cz"]).positions) == {"Cz"}


def test_letters_that_go_on_counting_are_a_grid():
    names = [*TEN_TWENTY, *(f"A{i}" for i in range(1, 9)), "C12"]
    placed = place_electrodes(names)
    assert "A1" in placed.dropped
    assert "C3" in placed.dropped
    assert "Cz" in placed.positions
    assert "F3" in placed.positions


def test_quality_flags_do_not_speak_against_standard_names():
    headset = ["AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4"]
    placed = place_electrodes([*headset, *(f"CQ_{name}" for name in headset), "CQ_CMS", "INTERPOLATED"])
    assert set(placed.positions) == set(headset)


def test_every_name_is_placed_or_dropped_with_a_reason():
    names = ["Fp1", "Fp1-F7", "A2-A1", "Z2", "O1"]
    placed = place_electrodes(names)
    assert set(placed.positions) | set(placed.dropped) == set(names)
    assert all(placed.dropped.values())
    assert set(placed.positions) == {"Fp1", "O1"}


SCALP = ["EEG Fp1-Ref", "EEG Fp2-Ref", "EEG F3-Ref", "EEG C3-Ref", "EEG Cz-Ref", "EEG Pz-Ref", "EEG O1-Ref"]


@pytest.mark.parametrize("montage", [None, "colin27_1020"])
@pytest.mark.parametrize("n_contacts", [0, 10, 200])
def test_known_electrodes_beside_contacts_are_kept_whatever_the_share(n_contacts, montage):
    contacts = [f"POL X{i + 1}" for i in range(n_contacts)]
    placed = place_electrodes([*contacts, *SCALP], montage)
    expected = by_mne(montage or "colin27_1005", ["Fp1", "Fp2", "F3", "C3", "Cz", "Pz", "O1"])
    assert set(placed.dropped) == set(contacts)
    for recorded, position in zip(SCALP, expected.values(), strict=True):
        np.testing.assert_allclose(placed.positions[recorded], position, atol=1e-9)


def test_a_contact_does_not_take_the_position_of_a_scalp_electrode():
    placed = place_electrodes([*SCALP, "POL C3", "POL O1", "POL P4"])
    assert set(placed.positions) == set(SCALP)
    assert "POL" in placed.dropped["POL C3"]


def test_names_that_all_have_the_prefix_are_electrodes():
    names = [name.replace("EEG", "POL").replace("-Ref", "") for name in SCALP]
    assert set(place_electrodes(names).positions) == set(names)


def test_letters_with_numbers_outside_the_10_20_system_are_shafts_among_unknown_names():
    unknown = [f"LH{i + 1}" for i in range(12)] + [f"RH{i + 1}" for i in range(12)]
    shaft = [f"C{i + 1}" for i in range(6)]
    placed = place_electrodes(["Fp1", "Fp2", "Fz", "Pz", "O1", "O2", *shaft, *unknown])
    assert set(placed.positions) == {"Fp1", "Fp2", "Fz", "Pz", "O1", "O2"}
    assert set(placed.dropped) == {*shaft, *unknown}


def test_standard_letters_without_a_name_of_the_10_20_system_prove_nothing():
    placed = place_electrodes(["C3", "C4", "O1", "O2", *(f"X{i}" for i in range(40))])
    assert not placed.positions
