"""Channel names, compared with MNE's list of the 10-05 system."""

import mne
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emeg.sensors import is_bipolar, match_names, standard_name
from emeg.sensors.names import STANDARD_NAMES, other_kind


def test_the_table_is_mnes_10_05_system_without_the_four_old_names():
    known = set(mne.channels.make_standard_montage("colin27_1005").ch_names)
    assert known - {"T3", "T4", "T5", "T6"} == STANDARD_NAMES
    assert len(STANDARD_NAMES) == 339


@pytest.mark.parametrize(
    ("recorded", "standard"),
    [
        ("Fc5.", "FC5"),
        ("Cz..", "Cz"),
        ("T10.", "T10"),
        ("Fpz.", "Fpz"),
        ("Afz.", "AFz"),
        ("FP1", "Fp1"),
        ("CZ", "Cz"),
        ("EEG T3", "T7"),
        ("T4", "T8"),
        ("T5", "P7"),
        ("EEG T6", "P8"),
        ("EEG F3-A2", "F3"),
        ("C4-M1", "C4"),
        ("EEG Fp1-Ref", "Fp1"),
        ("EEG FP1-REF", "Fp1"),
        ("EEG FP1-LE", "Fp1"),
        ("EEG F1-Ref-0", "F1"),
        ("F1-1", "F1"),
        ("POL O2", "O2"),
        ("EEG.AF3", "AF3"),
        ("poo9h", "POO9h"),
        ("A1", "A1"),
        ("M2", "M2"),
        ("Fp1-F7", None),
        ("EEG Fpz-Cz", None),
        ("F7-T3", None),
        ("EEG A2-A1", None),
        ("M1-A2", None),
        ("Fp1-F7-0", None),
        ("EEG 001", None),
        ("EEG", None),
        ("", None),
        ("VEOGo", None),
        ("ECG ECG", None),
        ("EOG Fp1", None),
        ("REF_EEG REF_EEG", None),
        ("Z2", None),
        ("E12", None),
        ("LL4", None),
        ("T1", None),
        ("SP1", None),
    ],
)
def test_recorded_names(recorded, standard):
    assert standard_name(recorded) == standard


@pytest.mark.parametrize(
    "name", ["Fp1-F7", "EEG Fpz-Cz", "A2-A1", "EEG A2-A1", "M1-M2", "T5-O1-1", "E12-E14", "F3 - C3"]
)
def test_derivations_are_bipolar(name):
    assert is_bipolar(name)


@pytest.mark.parametrize(
    "name", ["Fp1", "F3-A2", "EEG F1-Ref-0", "FP1-LE", "Ergo-Left", "MLC11-2908", "F1-0", "EEG 001", ""]
)
def test_one_electrode_is_not_bipolar(name):
    assert not is_bipolar(name)


@given(st.sampled_from(sorted(STANDARD_NAMES)), st.sampled_from(sorted(STANDARD_NAMES - {"A1", "A2", "M1", "M2"})))
def test_a_derivation_never_becomes_its_first_electrode(first, second):
    name = f"{first}-{second}"
    assert is_bipolar(name)
    assert standard_name(name) is None


@given(
    st.sampled_from(sorted(STANDARD_NAMES)),
    st.sampled_from(["{}", "EEG {}", "{}.", "{}..", "EEG {}-Ref", "{}-LE", " {} ", "POL {}"]),
    st.sampled_from([str.upper, str.lower, str]),
)
def test_any_dress_of_a_standard_name_is_seen_through(name, dress, case):
    recorded = dress.format(case(name))
    assert standard_name(recorded) == name
    assert other_kind(recorded) is None
    assert not is_bipolar(recorded)


@given(st.text(max_size=12))
def test_any_text_is_judged_without_failing(name):
    standard = standard_name(name)
    assert standard is None or standard in STANDARD_NAMES
    assert not (is_bipolar(name) and standard is not None)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("EOG", "eye"),
        ("VEOGo", "eye"),
        ("HEOGli", "eye"),
        ("EOG VEOG_II", "eye"),
        ("LEOG", "eye"),
        ("ECG ECG1", "heart"),
        ("EEG EKG1-REF", "heart"),
        ("EMG", "muscle"),
        ("EMG-Ref", "muscle"),
        ("REF_EEG REF_EEG", "reference or ground"),
        ("ReRef", "reference or ground"),
        ("VREF", "reference or ground"),
        ("Ref", "reference or ground"),
        ("DIG DTRIG", "trigger"),
        ("Status", "trigger"),
        ("STI 014", "trigger"),
        ("DC1", "auxiliary"),
        ("AUX_1", "auxiliary"),
        ("EXG5", "auxiliary"),
        ("BIP12", "auxiliary"),
        ("Pulse", "body"),
        ("SpO2", "body"),
        ("Resp chest", "body"),
        ("F3-Ref", None),
        ("EEG 001", None),
        ("SP1", None),
        ("LE1", None),
        ("E12", None),
    ],
)
def test_channels_that_are_not_eeg_by_name(name, kind):
    assert other_kind(name) == kind


@pytest.mark.parametrize(
    ("recorded", "listed", "expected"),
    [
        (["Fp1", "Fz"], ["FP1", "FZ"], {"Fp1": 0, "Fz": 1}),
        (["EEG Fp1-Ref", "EEG Fz-Ref"], ["Fz", "Fp1"], {"EEG Fp1-Ref": 1, "EEG Fz-Ref": 0}),
        (["T3"], ["T7"], {"T3": 0}),
        (["MEG0113", "EEG 001"], ["MEG 0113", "EEG001"], {"MEG0113": 0, "EEG 001": 1}),
        (["E1", "E128"], ["E001", "E128"], {"E1": 0, "E128": 1}),
        (["POL A1", "POL A10"], ["A10", "a1"], {"POL A1": 1, "POL A10": 0}),
        (["Fp1-F7"], ["Fp1"], {}),
        (["C3-A2", "C3-M1"], ["C3"], {}),
        (["A1-A2"], ["A1"], {}),
        (["T3", "T7"], ["T7", "T3"], {"T3": 1, "T7": 0}),
        (["Fp1"], ["fp1", "FP1", "Fp1"], {"Fp1": 2}),
        (["Fp1"], ["fp1", "FP1"], {}),
        (["", "Cz"], ["", "cz"], {"": 0, "Cz": 1}),
    ],
)
def test_names_of_one_channel_meet_and_others_do_not(recorded, listed, expected):
    assert match_names(recorded, listed) == expected


@pytest.mark.parametrize(
    ("recorded", "listed", "expected"),
    [
        (["T3"], ["T7"], {}),
        (["B3-A1"], ["B3", "A1"], {}),
        (["B3-A1", "A1"], ["B3"], {}),
        (["B3-A1", "POL B04"], ["B3", "b4"], {"B3-A1": 0, "POL B04": 1}),
        (["B3-Ref"], ["B3", "A1"], {"B3-Ref": 0}),
        (["A1-2", "A2-3"], ["A1", "A2", "A3"], {}),
        (["A1-2", "a2-3"], ["A1-2", "A2-3"], {"A1-2": 0, "a2-3": 1}),
        (["A1-0", "A1-1", "A2"], ["A1", "a2"], {"A2": 1}),
    ],
)
def test_names_of_contacts_mean_no_scalp_electrodes(recorded, listed, expected):
    assert match_names(recorded, listed, scalp=False) == expected


@given(st.permutations(sorted(STANDARD_NAMES)[:40]))
def test_every_standard_name_meets_itself_in_capitals_and_in_any_order(listed):
    recorded = sorted(STANDARD_NAMES)[:40]
    found = match_names(recorded, [name.upper() for name in listed])
    assert [listed[found[name]] for name in recorded] == recorded
