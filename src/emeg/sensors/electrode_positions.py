"""Positions of electrodes known by name: the 10-05 system, numbered caps, and built-in montages."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.errors import UserError
from emeg.sensors.names import electrode_parts, is_bipolar, like_electrode, standard_name

TEN_FIVE = "colin27_1005"
"""Template of the 10-05 system on the Colin27 head; MNE called it standard_1005 up to 1.12."""

Template = Mapping[str, NDArray[np.float64]]

_LETTERS = "ABCDEFGH"
_BIOSEMI_BANKS = {"biosemi128": 4, "biosemi160": 5, "biosemi256": 8}
_POL = re.compile(r"POL[\s_:.\-]", re.IGNORECASE)
_BIOSEMI_SMALL = {"biosemi32": 1, "biosemi64": 2}
"""Caps whose banks alone are no proof: two grids of 32 contacts are named alike."""
_BIOSEMI_BANK = 32
_BANKED = frozenset({"biosemi16", "biosemi32", "biosemi64"})
_HYDROCEL_SIZES = (128, 256)
_HIGHEST_STANDARD = {"A": 2, "C": 6, "F": 10, "I": 2, "M": 2, "O": 10, "P": 10, "T": 10}
"""Highest number behind each single letter in the 10-05 system (O9 and O10 are in use beside it)."""


_FEWEST_TELLING = 3
"""Names with two letters or a ``z`` (Fp1, Cz) that show electrodes of the 10-20 system: no numbered cap and no grid has
them."""

_TEN_TWENTY = frozenset(
    ["F3", "F4", "F7", "F8", "C3", "C4", "P3", "P4", "O1", "O2", "T7", "T8", "A1", "A2", "M1", "M2"]
)
"""Electrodes with one letter in the 10-20 system; the other numbers come with the 10-10 system only."""

_TEN_TEN_ROW = re.compile(r"(AF|FC|FT|CP|TP|PO)\d+")


class Placement(NamedTuple):
    """Electrodes with a certain position (head coordinates, m), the others with the reason, and the template used."""

    positions: dict[str, NDArray[np.float64]]
    dropped: dict[str, str]
    template: str


@cache
def template_positions(montage: str) -> Template:
    """Return the electrode positions of a montage that MNE-Python knows, in head coordinates, m.

    MNE puts a montage in head coordinates through its own fiducials, as digitised electrodes are: both are comparable.

    Raises
    ------
    UserError
        There is no such montage.
    """
    import mne

    known = mne.channels.get_builtin_montages()
    current = re.sub(r"^standard_", "colin27_", montage)
    if current not in known:
        raise UserError(f"montage {montage!r} is none of MNE's built-in ones; choose from {', '.join(known)}")
    template = mne.channels.make_standard_montage(current)
    info = mne.create_info(template.ch_names, 1.0, "eeg", verbose="error")
    info.set_montage(template, verbose="error")
    positions = {}
    for channel in info["chs"]:
        position = np.array(channel["loc"][:3], np.float64)
        position.setflags(write=False)
        positions[channel["ch_name"]] = position
    return MappingProxyType(positions)


def place_electrodes(names: Sequence[str], montage: str | None = None, *, biosemi: bool = False) -> Placement:
    """Find the positions that channel names certainly mean.

    All positions of a recording come from one template. A given montage is used if it knows at least half of the
    electrode-like names, or a few that only the 10-20 system has; else, or without one, names that are as a whole
    those of a numbered cap (HydroCel E1..E128 or E1..E256, BioSemi A1..D32, A1..E32 or A1..H32) get that cap's
    positions; else each name stands for an electrode of the 10-05 system, unless the other names speak against it:
    ``C3`` beside ``C17``, or among mostly unknown names without ``Cz`` or ``Fp1``, is a grid or a cap with a scheme of
    its own. Names with the prefix ``POL`` beside electrodes without it are contacts with unknown positions.

    Parameters
    ----------
    names : sequence of str
        Names of the EEG channels as recorded.
    montage : str, optional
        One of MNE's built-in montages.
    biosemi : bool
        The amplifier is BioSemi's, by other channels: A1..A32 and A1..B32 are its caps too.

    Raises
    ------
    UserError
        There is no such montage.
    """
    dropped = {name: "derivation between two electrodes, no single position" for name in names if is_bipolar(name)}
    contacts = unplaced_contacts([name for name in names if name not in dropped])
    dropped |= dict.fromkeys(contacts, "contact with an unknown position (POL) beside electrodes of the 10-20 system")
    single = [name for name in names if name not in dropped]
    found, template, reasons = _find(single, montage, biosemi=biosemi)
    dropped.update(reasons)
    repeated = Counter(position.tobytes() for position in found.values())
    positions = {}
    for name, position in found.items():
        if repeated[position.tobytes()] > 1:
            dropped[name] = "another channel has the same electrode's name: which is which cannot be known"
        else:
            positions[name] = position
    return Placement(positions, {name: dropped[name] for name in names if name in dropped}, template)


def unplaced_contacts(names: Sequence[str]) -> frozenset[str]:
    """Return the names with the prefix ``POL`` if other names, without it, are electrodes of the 10-05 system.

    Amplifiers for both kinds of electrodes give this prefix to inputs that are no scalp electrodes.
    """
    prefixed = frozenset(name for name in names if _POL.match(name.strip()))
    return prefixed if any(standard_name(name) for name in names if name not in prefixed) else frozenset()


def _find(
    names: Sequence[str], montage: str | None, *, biosemi: bool
) -> tuple[dict[str, NDArray[np.float64]], str, dict[str, str]]:
    if montage is not None:
        keys = _montage_keys(names, montage)
        if 2 * len(keys) >= _count_electrodes(names) or _has_ten_twenty(keys):
            reasons = {name: f"not in the montage {montage}" for name in names if name not in keys}
            return {name: template_positions(montage)[key] for name, key in keys.items()}, montage, reasons
    cap = numbered_cap(names, biosemi=biosemi)
    if cap is not None:
        keys = _montage_keys(names, cap)
        reasons = {name: f"not in the cap that the other names fit ({cap})" for name in names if name not in keys}
        return {name: template_positions(cap)[key] for name, key in keys.items()}, cap, reasons
    keys, reasons = _ten_five(names)
    return {name: template_positions(TEN_FIVE)[key] for name, key in keys.items()}, TEN_FIVE, reasons


def numbered_cap(names: Sequence[str], *, biosemi: bool = False) -> str | None:
    """Name the cap whose numbered electrodes, all of them and no more, are among the names, or None."""
    labels = {_label(name) for name in names}
    banks = {label for label in labels if re.fullmatch(r"[A-I]\d{1,3}", label)}
    for cap, n_banks in (_BIOSEMI_BANKS | (_BIOSEMI_SMALL if biosemi else {})).items():
        if banks == {f"{bank}{i + 1}" for bank in _LETTERS[:n_banks] for i in range(_BIOSEMI_BANK)}:
            return cap
    for size in _HYDROCEL_SIZES:
        extra = banks - {f"E{i + 1}" for i in range(size)}
        if len(banks) - len(extra) == size and extra <= {f"E{size + 1}"}:
            return f"GSN-HydroCel-{size + 1 if extra or 'CZ' in labels else size}"
    return None


def _ten_five(names: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    keys = {name: key for name in names if (key := standard_name(name)) is not None}
    unknown = "no standard electrode's name, and the file has no position"
    if not keys:
        return {}, dict.fromkeys(names, unknown)
    n_electrodes = _count_electrodes(names)
    mostly_unknown = 2 * len(keys) < n_electrodes
    if mostly_unknown and not _has_ten_twenty(keys):
        reason = (
            f"only {len(keys)} of {n_electrodes} names are standard ones, so the cap numbers its electrodes in a way of"
            " its own; give its montage"
        )
        return {}, dict.fromkeys(names, reason)
    shafts = {label[0] for label in map(_label, names) if _beyond_standard(label)}
    if mostly_unknown and not any(_TEN_TEN_ROW.fullmatch(key) for key in keys.values()):
        shafts |= {key[0] for key in keys.values() if re.fullmatch(r"[A-Z]\d+", key) and key not in _TEN_TWENTY}
    reasons = {}
    for name in names:
        if name not in keys:
            reasons[name] = unknown
        elif (label := _label(name))[:1] in shafts and re.fullmatch(r"[A-Z]\d+", label):
            reasons[name] = (
                f"other names go on counting {label[0]}…: a grid or a numbered cap, not the standard electrode"
            )
            del keys[name]
    return keys, reasons


def _has_ten_twenty(names: Iterable[str]) -> bool:
    """Check whether some names are those of the 10-20 system and of no numbered cap or grid."""
    found = {key for name in names if (key := standard_name(name)) is not None}
    return sum(re.fullmatch(r"[A-Z]\d+", key) is None for key in found) >= _FEWEST_TELLING


def _count_electrodes(names: Sequence[str]) -> int:
    """Count the names formed like an electrode's: quality flags and the like do not speak against the others."""
    return sum(like_electrode(electrode_parts(name)[0]) for name in names)


def _beyond_standard(label: str) -> bool:
    match = re.fullmatch(r"([A-Z])(\d{1,3})", label)
    return match is not None and int(match[2]) > _HIGHEST_STANDARD.get(match[1], 999)


def _label(name: str) -> str:
    """Return the electrode's part of a name in capitals, numbers without leading zeros."""
    return re.sub(r"^([A-Z]+)0+(?=\d)", r"\1", electrode_parts(name)[0].upper())


def _montage_keys(names: Sequence[str], montage: str) -> dict[str, str]:
    """Return the montage's own spelling of the recorded names that it knows."""
    spellings = dict(_spellings(montage))
    if montage in _BANKED and any(re.fullmatch(r"A([3-9]|[12]\d|3[012])", _label(name)) for name in names):
        # These caps' 10-20 electrodes are wired, and often recorded, as A1..A32, B1..B32; MNE lists them in that order.
        order = enumerate(template_positions(montage))
        spellings |= {f"{_LETTERS[i // _BIOSEMI_BANK]}{i % _BIOSEMI_BANK + 1}": name for i, name in order}
    found = {}
    for name in names:
        label = _label(name)
        candidates = [name.strip().upper(), label, (standard_name(name) or "").upper()]
        if label.isdigit():  # "EEG 001"
            candidates += [f"E{int(label)}", f"EEG{int(label):03d}", str(int(label))]
        key = next((spellings[c] for c in candidates if c in spellings), None)
        if key is not None:
            found[name] = key
    return found


@cache
def _spellings(montage: str) -> Mapping[str, str]:
    names = list(template_positions(montage))
    spellings = {name.upper(): name for name in names}
    if montage.startswith("GSN-HydroCel-") and names[-1] == "Cz":
        spellings[f"E{len(names)}"] = "Cz"  # the vertex reference, when it is recorded, is numbered last
    return MappingProxyType(spellings)
