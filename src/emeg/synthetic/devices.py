"""Simulated devices: electrodes on a cap or in the brain, or coils on a helmet, with noise and file format."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import mne
import numpy as np
from mne.io.constants import FIFF
from numpy.typing import NDArray

from emeg.synthetic.implants import Implant, implant_info
from emeg.synthetic.people import HEAD_CENTRE_M, Person
from emeg.synthetic.randomness import generator

FloatArray = NDArray[np.float64]

_ORDER_10_20 = "Fp1 Fp2 F7 F3 Fz F4 F8 T3 C3 Cz C4 T4 T5 P3 Pz P4 T6 O1 O2"
STANDARD19 = tuple(_ORDER_10_20.split())
"""The 10-20 electrodes under their older names, as clinical systems write them."""


@dataclass(frozen=True)
class Cap:
    """Electrodes of one EEG device.

    Attributes
    ----------
    montage : str
        MNE built-in montage that knows the electrodes.
    names : tuple of str, optional
        Electrodes in recording order; empty for all of the montage.
    reference : tuple of str
        10-05 electrodes whose mean is subtracted by the amplifier.
    digitised : bool
        Whether positions are measured and written beside the data.
    """

    montage: str
    names: tuple[str, ...]
    reference: tuple[str, ...]
    digitised: bool = False


@dataclass(frozen=True)
class Helmet:
    """Coils of one MEG device.

    Attributes
    ----------
    surface : str
        Helmet surface of the mne package.
    n_sites : int
    coils : tuple of (suffix, FIFF coil id, turn)
        Coils at each site; `turn` rotates a coil about its normal by quarters of a circle.
    lowest_m : float
        Sites lie above this height of the surface's own coordinates.
    scale, standoff_m : float
        The surface is scaled about its centre, and the coils stand off from it along the normal.
    """

    surface: str
    n_sites: int
    coils: tuple[tuple[str, int, int], ...]
    lowest_m: float = -0.06
    scale: float = 1.0
    standoff_m: float = 0.0


@dataclass(frozen=True)
class Device:
    """One simulated device.

    Attributes
    ----------
    noise_density : dict
        White sensor noise by FIFF coil id: V/√Hz, T/√Hz, or (T/m)/√Hz.
    sfreq, mains_hz : float
    extension : str
        File format: ``.edf``, ``.bdf``, ``.set`` or ``.fif``.
    resembles : str
        Real device that it models, as named in sidecars.
    """

    name: str
    resembles: str
    sensors: Cap | Helmet | Implant
    sfreq: float
    mains_hz: float
    noise_density: dict[int, float]
    extension: Literal[".edf", ".bdf", ".set", ".fif"]

    @property
    def datatype(self) -> Literal["eeg", "meg", "ieeg"]:
        """BIDS data type."""
        if isinstance(self.sensors, Implant):
            return "ieeg"
        return "eeg" if isinstance(self.sensors, Cap) else "meg"


EEG = int(FIFF.FIFFV_COIL_EEG)
VECTORVIEW_MAGNETOMETER = int(FIFF.FIFFV_COIL_VV_MAG_T3)
VECTORVIEW_PLANAR = int(FIFF.FIFFV_COIL_VV_PLANAR_T1)
CTF_AXIAL = int(FIFF.FIFFV_COIL_CTF_GRAD)
OPM = int(FIFF.FIFFV_COIL_QUSPIN_ZFOPM_MAG2)

# An amplifier's 0.5 µV rms over 0-100 Hz; SQUIDs 3 fT/√Hz and 3 fT/cm/√Hz (Elekta), 5 fT/√Hz (CTF); OPM 15 fT/√Hz.
_AMPLIFIER = {EEG: 0.05e-6}
DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        Device(
            "standard19",
            "clinical 10-20 system, 19 electrodes",
            Cap("colin27_1005", STANDARD19, ("M1", "M2")),
            250.0,
            50.0,
            _AMPLIFIER,
            ".edf",
        ),
        Device(
            "biosemi64",
            "BioSemi ActiveTwo, 64 electrodes",
            Cap("biosemi64", (), ("PO3", "PO4")),
            512.0,
            50.0,
            _AMPLIFIER,
            ".bdf",
        ),
        Device(
            "hydrocel128",
            "EGI HydroCel Geodesic Sensor Net, 128 electrodes",
            Cap("GSN-HydroCel-128", (), ("Cz",), digitised=True),
            500.0,
            60.0,
            _AMPLIFIER,
            ".set",
        ),
        Device(
            "vectorview306",
            "Elekta Vectorview, 102 magnetometers and 204 planar gradiometers",
            Helmet(
                "306m",
                102,
                (("3", VECTORVIEW_PLANAR, 0), ("2", VECTORVIEW_PLANAR, 1), ("1", VECTORVIEW_MAGNETOMETER, 0)),
            ),
            500.0,
            60.0,
            {VECTORVIEW_MAGNETOMETER: 3e-15, VECTORVIEW_PLANAR: 3e-13},
            ".fif",
        ),
        Device(
            "ctf275",
            "CTF 275, axial gradiometers",
            Helmet("CTF_275", 275, (("", CTF_AXIAL, 0),), standoff_m=0.012),
            600.0,
            50.0,
            {CTF_AXIAL: 5e-15},
            ".fif",
        ),
        Device(
            "opm64",
            "64 QuSpin optically pumped magnetometers in a rigid helmet",
            Helmet("KIT", 64, (("", OPM, 0),), scale=0.90),
            1000.0,
            50.0,
            {OPM: 15e-15},
            ".fif",
        ),
        Device("seeg", "depth electrodes of up to 8 contacts", Implant("SEEG"), 512.0, 50.0, _AMPLIFIER, ".edf"),
        Device("ecog", "a grid of 20 contacts and a strip of 6", Implant("ECOG"), 512.0, 50.0, _AMPLIFIER, ".edf"),
    )
}
"""Every device by name."""


def describe_sensors(device: Device, person: Person, *, seed: int) -> mne.Info:
    """Return the sensors of a device on the head of one subject.

    Returns
    -------
    mne.Info
        EEG: electrodes on the scalp, head coordinates, then the reference electrodes named ``ref-…``.
        MEG: coils in device coordinates, equal for all subjects, and the position of the head in the helmet.
        Intracranial: contacts in head coordinates, other ones in every subject.
    """
    if isinstance(device.sensors, Implant):
        return implant_info(device.sensors, device.sfreq, person, generator(seed, person.label, device.name, "implant"))
    if isinstance(device.sensors, Cap):
        return _cap_info(device, device.sensors, person, seed=seed)
    return _helmet_info(device, device.sensors, person, seed=seed)


def reference_rows(info: mne.Info) -> list[int]:
    """Return the rows of the reference electrodes."""
    return [row for row, name in enumerate(info["ch_names"]) if name.startswith("ref-")]


def _cap_info(device: Device, cap: Cap, person: Person, *, seed: int) -> mne.Info:
    names, directions = _cap_directions(cap)
    rng = generator(seed, person.label, device.name, "cap")
    tilt = _rotation(rng.normal(0.0, np.deg2rad(2.0), 3))  # caps never sit exactly as designed
    directions = directions @ tilt.T + rng.normal(0.0, 0.01, directions.shape)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    info = mne.create_info(list(names), device.sfreq, "eeg")
    for channel, direction in zip(info["chs"], directions, strict=True):
        channel["loc"][:3] = np.array(HEAD_CENTRE_M) + person.head_radius * direction
        channel["loc"][3:6] = 0.0  # reference unknown
        channel["coord_frame"] = FIFF.FIFFV_COORD_HEAD
    return info


@cache
def _cap_directions(cap: Cap) -> tuple[tuple[str, ...], FloatArray]:
    names, directions = _montage_directions(cap.montage)
    wanted = cap.names or names
    rows = [names.index(name) for name in wanted]
    standard, standard_directions = _montage_directions("colin27_1005")
    reference = [standard.index(name) for name in cap.reference]
    return (
        (*wanted, *(f"ref-{name}" for name in cap.reference)),
        np.concatenate([directions[rows], standard_directions[reference]]),
    )


@cache
def _montage_directions(montage: str) -> tuple[tuple[str, ...], FloatArray]:
    names = mne.channels.make_standard_montage(montage).ch_names
    info = mne.create_info(names, 1.0, "eeg")
    info.set_montage(montage)  # turns the positions into head coordinates
    positions = np.array([channel["loc"][:3] for channel in info["chs"]])
    # sphere through the electrodes: |p|² = 2 p·c + (r² − |c|²)
    design = np.column_stack([2.0 * positions, np.ones(len(positions))])
    centre = np.linalg.lstsq(design, (positions**2).sum(axis=1), rcond=None)[0][:3]
    directions = positions - centre
    return tuple(names), directions / np.linalg.norm(directions, axis=1, keepdims=True)


def _helmet_info(device: Device, helmet: Helmet, person: Person, *, seed: int) -> mne.Info:
    sites, normals, centre = helmet_sites(helmet)
    names, locations, coils = [], [], []
    for site, (position, normal) in enumerate(zip(sites, normals, strict=True), start=1):
        for suffix, coil, quarter_turns in helmet.coils:
            names.append(f"MEG{site:03d}{suffix}")
            coils.append(coil)
            locations.append(np.concatenate([position, *_coil_axes(normal, quarter_turns)]))
    planar = [coil == VECTORVIEW_PLANAR for coil in coils]
    info = mne.create_info(names, device.sfreq, ["grad" if is_planar else "mag" for is_planar in planar])
    for channel, coil, location in zip(info["chs"], coils, locations, strict=True):
        channel["coil_type"] = coil
        channel["loc"][:] = location
        channel["coord_frame"] = FIFF.FIFFV_COORD_DEVICE
    rng = generator(seed, person.label, device.name, "head position")
    with info._unlock():  # MNE has no other way to set the position of the head
        info["dev_head_t"] = mne.transforms.Transform("meg", "head", _head_place(centre, rng))
    return info


def _head_place(centre: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Draw the transform from device to head: centres are close, with a rotation of a few degrees."""
    rotation = _rotation(rng.normal(0.0, np.deg2rad(4.0), 3))
    offset = rng.normal(0.0, [0.001, 0.002, 0.002])
    transform = np.eye(4)
    transform[:3, :3] = rotation
    transform[:3, 3] = np.array(HEAD_CENTRE_M) + offset - rotation @ centre
    return transform


def _rotation(angles: FloatArray) -> FloatArray:
    return np.asarray(mne.transforms.rotation(*angles)[:3, :3])


def _coil_axes(normal: FloatArray, quarter_turns: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the local axes of a coil: the first along the helmet's parallels, or its meridians after a turn."""
    across = np.cross([0.0, 0.0, 1.0], normal)
    if np.linalg.norm(across) < 1e-6:  # at the crown
        across = np.array([1.0, 0.0, 0.0])
    across /= np.linalg.norm(across)
    up = np.cross(normal, across)
    return (across, up, normal) if quarter_turns % 2 == 0 else (up, -across, normal)


@cache
def helmet_sites(helmet: Helmet) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Place sites evenly on a helmet surface.

    Returns
    -------
    positions : float64 (sites, 3)
        Metres, device coordinates, in order of height and then around the head.
    normals : float64 (sites, 3)
        Outward unit vectors.
    centre : float64 (3,)
        Centre of the head.
    """
    points, normals, areas = _surface_points(helmet)
    chosen = _farthest_points(points, helmet.n_sites)
    centre = _sphere_centre(points, areas)
    outward = np.sign(((points - centre) * normals).sum(axis=1, keepdims=True))
    normals = normals * outward
    positions = centre + (points[chosen] - centre) * helmet.scale + helmet.standoff_m * normals[chosen]
    rings = -np.round((positions[:, 2] - positions[:, 2].min()) / 0.02)
    order = np.lexsort((np.arctan2(positions[:, 0], -positions[:, 1]), rings))
    return positions[order], normals[chosen][order], centre


def _surface_points(helmet: Helmet) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Divide every triangle into 16 and return centres, smooth normals and areas."""
    path = Path(mne.__file__).parent / "data" / "helmets" / f"{helmet.surface}.fif.gz"
    surface: dict[str, Any] = mne.read_bem_surfaces(path, verbose="error")[0]
    corners = surface["rr"][surface["tris"]]
    normals = surface["nn"][surface["tris"]]
    weights = np.array([(i + 1 / 3, j + 1 / 3, 4 - i - j - 2 / 3) for i in range(4) for j in range(4 - i)]) / 4.0
    points = np.einsum("wk,tkx->twx", weights, corners).reshape(-1, 3)
    smooth = np.einsum("wk,tkx->twx", weights, normals).reshape(-1, 3)
    smooth /= np.linalg.norm(smooth, axis=1, keepdims=True)
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2.0
    areas = np.repeat(areas, len(weights))
    # the face stays open: a helmet ends at the brow
    keep = (points[:, 2] > helmet.lowest_m) & ~((points[:, 1] > 0.05) & (points[:, 2] < 0.0))
    return points[keep], smooth[keep], areas[keep]


def _sphere_centre(points: FloatArray, areas: FloatArray) -> FloatArray:
    weight = np.sqrt(areas)[:, None]
    design = np.column_stack([2.0 * points, np.ones(len(points))])
    target = (points**2).sum(axis=1, keepdims=True)
    return np.asarray(np.linalg.lstsq(design * weight, target * weight, rcond=None)[0][:3, 0])


def _farthest_points(points: FloatArray, n_points: int) -> NDArray[np.intp]:
    """Choose points one by one, each the farthest from those before, which spaces them evenly."""
    chosen = [int(points[:, 2].argmax())]
    distance = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < n_points:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return np.array(chosen)
