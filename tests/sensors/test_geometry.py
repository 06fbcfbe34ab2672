"""The geometry gate: what passes, what is refused, and whether the message names the planted cause."""

from itertools import permutations, product

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.messages import refusal

from emeg.errors import RecordingError
from emeg.sensors import Sensors, check_geometry, sensors_from_info
from emeg.sensors.electrode_positions import template_positions

OCCIPITAL = ["Oz", "O1", "O2", "PO3", "POz", "PO7", "PO8", "PO4"]
MUSE = ["TP9", "AF7", "AF8", "TP10"]
TEN_TWENTY = ["Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3", "Pz", "P4", "P8"]
TEN_TWENTY += ["O1", "O2"]
EEGLAB = np.array([[0, 1.0, 0], [-1, 0, 0], [0, 0, 1]])  # x to the nose, y to the left ear
QUARTER_TURNS = [
    turn
    for order in permutations(range(3))
    for signs in product((1.0, -1.0), repeat=3)
    if np.isclose(np.linalg.det(turn := np.array(signs)[:, None] * np.eye(3)[list(order)]), 1) and np.trace(turn) == 1
]


def eeg(positions, names=None):
    n = len(positions)
    names = tuple(names or (f"EEG {i:03d}" for i in range(n)))
    return Sensors(names, np.zeros(n), ("V",) * n, positions, np.zeros((n, 3)), np.ones(n))


def named(names, template="colin27_1005"):
    return eeg([template_positions(template)[name] for name in names], names)


def helmet(surface, coil):
    """Coils on a helmet surface of the mne package, normals outward; planar ones along the surface."""
    points, normals = helmet_points(surface)
    planar = coil in (2, 3012)
    axis = np.cross(normals, [0.0, 0.0, 1.0]) if planar else normals
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    n = len(points)
    unit = "T/m" if planar else "T"
    kind = 2 if planar or coil in (5001, 6001) else 1
    return Sensors(tuple(f"M{i}" for i in range(n)), np.full(n, kind), (unit,) * n, points, axis, np.full(n, coil))


def helmet_points(name):
    from importlib.resources import as_file, files

    with as_file(files("mne") / "data" / "helmets" / f"{name}.fif.gz") as path:
        surface = mne.read_bem_surfaces(path, verbose="error")[0]
    points = np.asarray(surface["rr"], np.float64)
    normals = np.asarray(surface["nn"], np.float64)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return points, normals


def moved(sensors, positions=None, orientations=None, meg_frame=None):
    return Sensors(
        sensors.names,
        sensors.types,
        sensors.units,
        sensors.positions if positions is None else positions,
        sensors.orientations if orientations is None else orientations,
        sensors.coils,
        meg_frame or sensors.meg_frame,
    )


def turned(sensors, turn):
    return moved(sensors, sensors.positions @ turn.T, sensors.orientations @ turn.T)


@pytest.mark.parametrize("names", [OCCIPITAL, MUSE, TEN_TWENTY, ["Cz"], ["C3", "C4"], ["Fp1", "Fp2", "O1"]])
def test_a_few_electrodes_pass(names):
    check_geometry(named(names))


def test_every_electrode_montage_of_mne_passes():
    for name in mne.channels.get_builtin_montages():
        if not name.startswith("artinis"):  # near-infrared optodes
            # Some templates have two names for a place (T3 and T7): one of them is enough.
            places = {position.tobytes(): (label, position) for label, position in template_positions(name).items()}
            names, positions = zip(*places.values(), strict=True)
            check_geometry(eeg(positions, names))


def test_nothing_is_no_fault():
    check_geometry(eeg(np.zeros((0, 3))))


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([OCCIPITAL, MUSE, TEN_TWENTY]),
    st.sampled_from(["colin27_1005", "fsaverage_1005", "spherical_1005"]),
    st.floats(0.7, 1.3),
    st.floats(-12, 12),
    st.integers(0, 2**32 - 1),
)
def test_digitised_heads_of_any_size_pass(names, template, size, tilt, seed):
    """Heads 30 % smaller or larger, caps tilted by 12°, digitised with an error of 5 mm."""
    turn = mne.transforms.rotation(*np.radians([tilt, tilt / 2, -tilt / 3]))[:3, :3]
    noise = np.clip(np.random.default_rng(seed).normal(scale=0.003, size=(len(names), 3)), -0.005, 0.005)
    check_geometry(eeg(named(names, template).positions @ turn.T * size + noise, names))


@pytest.mark.parametrize(
    ("factor", "unit"),
    [
        (1e3, ": millimetres"),
        (1e2, ": centimetres"),
        (1e1, ": decimetres"),
        (1e-3, "for millimetres"),
        (1e-2, "for centimetres"),
        (30.0, "no head"),
    ],
)
@pytest.mark.parametrize("names", [OCCIPITAL, MUSE, TEN_TWENTY, ["Cz"]])
def test_a_wrong_unit_of_electrodes_is_named(factor, unit, names):
    sensors = named(names)
    with refusal(RecordingError, "electrodes", unit, action="electrodes.tsv") as caught:
        check_geometry(moved(sensors, sensors.positions * factor))
    assert caught.value.stage == "sensors"


def test_a_unit_sphere_is_named():
    positions = named(TEN_TWENTY, "spherical_1005").positions
    with refusal(RecordingError, "electrodes are 1 m", action="electrodes.tsv"):
        check_geometry(eeg(positions / np.linalg.norm(positions, axis=1, keepdims=True), TEN_TWENTY))


@pytest.mark.parametrize("turn", QUARTER_TURNS)
@pytest.mark.parametrize("names", [OCCIPITAL, MUSE, TEN_TWENTY, ["Fz", "Cz", "Pz"]])
def test_every_quarter_turn_of_named_electrodes_is_refused(turn, names):
    with refusal(RecordingError, "EEG", "90°", action="electrodes.tsv"):
        check_geometry(turned(named(names), turn))


def test_eeglabs_axes_are_named():
    with refusal(RecordingError, "EEGLAB", "-y, x, z of", action="electrodes.tsv"):
        check_geometry(turned(named(TEN_TWENTY), EEGLAB))


@pytest.mark.parametrize("names", [OCCIPITAL, MUSE, TEN_TWENTY])
def test_exchanged_sides_are_refused(names):
    with refusal(RecordingError, "EEG", "-x, y, z", action="electrodes.tsv"):
        check_geometry(turned(named(names), np.diag([-1.0, 1, 1])))


def test_places_that_belong_to_other_names_are_refused():
    sensors = named(TEN_TWENTY)
    shuffled = np.random.default_rng(3).permutation(len(sensors))
    with refusal(RecordingError, "EEG", "standard positions", action="electrodes.tsv"):
        check_geometry(moved(sensors, sensors.positions[shuffled]))


@pytest.mark.parametrize("turn", [t for t in QUARTER_TURNS if t[2, 2] == 0])
@pytest.mark.parametrize("cap", ["biosemi128", "GSN-HydroCel-129", "easycap-M1", "mgh60"])
def test_a_whole_cap_without_names_must_be_closed_above(turn, cap):
    with refusal(RecordingError, "EEG", "+z", action="electrodes.tsv"):
        check_geometry(turned(eeg(list(template_positions(cap).values())), turn))


@pytest.mark.parametrize(("field", "value"), [("positions", np.nan), ("positions", np.inf)])
def test_numbers_that_are_none_are_refused(field, value):
    sensors = named(TEN_TWENTY)
    broken = sensors.positions.copy()
    broken[3, 1] = value
    with refusal(RecordingError, "F3", action="electrodes.tsv"):
        check_geometry(moved(sensors, **{field: broken}))


def test_one_place_for_all_or_for_two_is_refused():
    sensors = named(TEN_TWENTY)
    with refusal(RecordingError, "19 sensors", action="electrodes.tsv"):
        check_geometry(moved(sensors, np.tile(sensors.positions[0], (19, 1))))
    twice = sensors.positions.copy()
    twice[5] = twice[2]
    with refusal(RecordingError, "F7 and F4", action="electrodes.tsv"):
        check_geometry(moved(sensors, twice))


def test_one_electrode_off_the_head_is_named():
    sensors = named(TEN_TWENTY)
    odd = sensors.positions.copy()
    odd[9] *= 3
    with refusal(RecordingError, "Cz", action="electrodes.tsv"):
        check_geometry(moved(sensors, odd))


HELMETS = [("306m", 3024), ("306m", 3012), ("CTF_275", 5001), ("KIT", 6001), ("Magnes_3600wh", 4001), ("122m", 2)]


@pytest.mark.parametrize(("surface", "coil"), HELMETS)
def test_helmets_pass_and_their_faults_do_not(surface, coil):
    sensors = helmet(surface, coil)
    check_geometry(sensors)
    for factor, unit in [(1e3, ": millimetres"), (1e2, ": centimetres"), (1e-3, "for millimetres")]:
        with refusal(RecordingError, "MEG sensors", unit, action="software"):
            check_geometry(moved(sensors, sensors.positions * factor))
    for turn in QUARTER_TURNS:
        with refusal(RecordingError, "MEG", "90°", action="software"):
            check_geometry(turned(sensors, turn))
    with refusal(RecordingError, "shifted", "device", action="software"):
        check_geometry(moved(sensors, sensors.positions + np.array([0.0, 0.0, 0.3])))


@pytest.mark.parametrize(("surface", "coil"), HELMETS)
def test_axes_that_do_not_follow_the_helmet_are_refused(surface, coil):
    sensors = helmet(surface, coil)
    _, normals = helmet_points(surface)
    tangents = np.cross(normals, [0.0, 0.0, 1.0])
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    with refusal(RecordingError, "helmet", "orientations", action="software"):
        check_geometry(moved(sensors, orientations=normals if coil in (2, 3012) else tangents))
    with refusal(RecordingError, "length 0", action="software"):
        check_geometry(moved(sensors, orientations=np.zeros((len(sensors), 3))))


def test_a_few_opm_of_three_axes_pass_anywhere_on_a_head():
    points, _ = helmet_points("306m")
    points = np.repeat(points[[3, 40, 80]], 3, axis=0)
    sensors = Sensors(
        tuple("abcdefghi"), np.ones(9), ("T",) * 9, points + 0.5, np.tile(np.eye(3), (3, 1)), np.full(9, 8002)
    )
    check_geometry(sensors)
    with refusal(RecordingError, "9 pairs", "a and b", action="software"):
        check_geometry(moved(sensors, orientations=np.tile([[1.0, 0, 0]], (9, 1))))
    with refusal(RecordingError, "shifted", "head coordinates", action="software"):
        check_geometry(moved(sensors, meg_frame="head"))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_real_helmet_with_electrodes_is_judged_by_parts(shared):
    path = shared / "data" / "devices" / "neuromag306" / "sample_audvis_trunc_raw_sss.fif"
    sensors = sensors_from_info(mne.io.read_info(path, verbose="error")).sensors
    check_geometry(sensors)
    turn = mne.transforms.rotation(0, 0, np.pi / 2)[:3, :3]
    only_meg = np.where(sensors.is_eeg[:, None], sensors.positions, sensors.positions @ turn.T)
    with refusal(RecordingError, "MEG", "about z", action="software"):
        check_geometry(moved(sensors, only_meg, sensors.orientations @ turn.T))
    only_eeg = np.where(sensors.is_eeg[:, None], sensors.positions * 1e3, sensors.positions)
    with refusal(RecordingError, "electrodes", "millimetres", action="electrodes.tsv"):
        check_geometry(moved(sensors, only_eeg))
