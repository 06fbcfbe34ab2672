"""Channel names as recorded, and the standard electrode that each one certainly means."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TypeVar

T = TypeVar("T")

_ROWS = {
    "Fp": "z 1 2 1h 2h",
    "AF": "z 1 2 3 4 5 6 7 8 9 10 1h 2h 3h 4h 5h 6h 7h 8h 9h 10h",
    "F": "z 1 2 3 4 5 6 7 8 9 10 1h 2h 3h 4h 5h 6h 7h 8h 9h 10h",
    "FT": "7 8 9 10 7h 8h 9h 10h",
    "FC": "z 1 2 3 4 5 6 1h 2h 3h 4h 5h 6h",
    "T": "7 8 9 10 7h 8h 9h 10h",
    "C": "z 1 2 3 4 5 6 1h 2h 3h 4h 5h 6h",
    "TP": "7 8 9 10 7h 8h 9h 10h",
    "CP": "z 1 2 3 4 5 6 1h 2h 3h 4h 5h 6h",
    "P": "z 1 2 3 4 5 6 7 8 9 10 1h 2h 3h 4h 5h 6h 7h 8h 9h 10h",
    "PO": "z 1 2 3 4 5 6 7 8 9 10 1h 2h 3h 4h 5h 6h 7h 8h 9h 10h",
    "O": "z 1 2 1h 2h",
    "I": "z 1 2 1h 2h",
    "AFp": "z 1 2 3 4 5 6 7 8 9 10 1h 2h 3h 4h 5h 6h 7h 8h 9h 10h",
    "AFF": "z 1 2 3 4 5 6 7 8 9 10 1h 2h 3h 4h 5h 6h 7h 8h 9h 10h",
    "FFT": "7 8 9 10 7h 8h 9h 10h",
    "FFC": "z 1 2 3 4 5 6 1h 2h 3h 4h 5h 6h",
    "FTT": "7 8 9 10 7h 8h 9h 10h",
    "FCC": "z 1 2 3 4 5 6 1h 2h 3h 4h 5h 6h",
    "TTP": "7 8 9 10 7h 8h 9h 10h",
    "CCP": "z 1 2 3 4 5 6 1h 2h 3h 4h 5h 6h",
    "TPP": "7 8 9 10 7h 8h 9h 10h",
    "CPP": "z 1 2 3 4 5 6 1h 2h 3h 4h 5h 6h",
    "PPO": "z 1 2 3 4 5 6 7 8 9 10 1h 2h 3h 4h 5h 6h 7h 8h 9h 10h",
    "POO": "z 1 2 3 4 5 6 7 8 9 10 1h 2h 3h 4h 5h 6h 7h 8h 9h 10h",
    "OI": "z 1 2 1h 2h",
    "M": "1 2",
    "A": "1 2",
}
_STANDARD = {
    f"{row}{column}".casefold(): f"{row}{column}" for row, columns in _ROWS.items() for column in columns.split()
}
_OLD = {"t3": "T7", "t4": "T8", "t5": "P7", "t6": "P8"}
"""Names of the 10-20 system before the 10-10 one renamed four temporal electrodes (ACNS guideline 5)."""

_NAMES = _STANDARD | _OLD
STANDARD_NAMES = frozenset(_STANDARD.values())
"""Electrodes of the 10-05 system, with mastoids (M1, M2) and earlobes (A1, A2), spelt as in MNE."""

_EARS = frozenset({"A1", "A2", "M1", "M2"})
_REFERENCES = frozenset(
    {"ref", "reference", "re", "le", "ar", "avg", "av", "ave", "average", "car", "lm", "rm", "vref"}
    | {"a1", "a2", "m1", "m2", "a1a2", "a12", "m1m2", "m12", "a1+a2", "m1+m2"}
)
"""Texts behind the dash of a channel that is one electrode against a common reference."""

_PREFIX = re.compile(r"^(?:EEG|POL)[\s_:.\-]+", re.IGNORECASE)
_SEPARATOR = re.compile(r"\s*[-\u2013:]\s*")
_SHORT = re.compile(r"(.*\d)\s*-\s*\d+")
_NUMBERED = re.compile(r"[A-Za-z]{0,3}'?\d{1,3}")

_KINDS = {
    "eye": r"[vhlri]?eog\w*",
    "heart": r"e[ck]g\w*|hr",
    "muscle": r"emg\w*|chin\d*",
    "reference or ground": r"\w*ref|reference|gnd|ground|cms|drl",
    "trigger": r"d?trig\w*|status|sti\d*|stim\w*|marker\w*|events?|annotations?|dig|digital",
    "auxiliary": (
        r"aux\w*|misc\w*|dc\d*|exg?\d*|ext\d*|bip\d*|acc\w*|gyro\w*|counter|battery|sample\w*|photic\w*|pho|ergo"
    ),
    "body": (
        r"resp\w*|rsp|airflow|flow|thor\w*|abd\w*|gsr\d*|eda|scr|temp\w*|puls\w*|ppg|pleth\w*|bvp|spo2|sao2|osat|"
        r"etco2|snor\w*|pr"
    ),
}
_NOT_EEG = {kind: re.compile(pattern, re.IGNORECASE) for kind, pattern in _KINDS.items()}


def electrode_parts(name: str) -> tuple[str, ...]:
    """Split a recorded name into the parts between its dashes.

    Filling dots and blanks, an ``EEG`` or ``POL`` prefix and the running number that MNE adds to repeated names
    (``F1-0``) are taken off: ``"Fc5."`` is ``("Fc5",)``, ``"EEG F3-A2"`` is ``("F3", "A2")``.
    """
    base = _PREFIX.sub("", name.strip(" .\t\0")).strip(" .")
    parts = [part.strip(" .") for part in _SEPARATOR.split(base)]
    if len(parts) > 1 and parts[-1].isdigit():
        parts.pop()
    return tuple(parts)


def standard_name(name: str) -> str | None:
    """Return the electrode of the 10-05 system that a recorded name means, or None where that is not certain.

    Case, filling dots, an ``EEG`` prefix and a common reference behind a dash do not matter, old names are renewed:
    ``Fc5.`` is FC5, ``FP1`` Fp1, ``EEG T3`` T7, ``EEG F3-A2`` F3. A derivation between two electrodes (``Fp1-F7``)
    and a difference of references (``A2-A1``) are none. The name alone is judged: whether a recording's ``A1`` is an
    earlobe or the vertex of a BioSemi cap depends on its other names, see `place_electrodes`.
    """
    left, *right = electrode_parts(name)
    standard = _NAMES.get(left.casefold())
    if not right:
        return standard
    if len(right) > 1 or not _is_reference(right[0]) or (standard in _EARS and _is_ear_name(right[0])):
        return None
    return standard


def is_bipolar(name: str) -> bool:
    """Check whether a name is a derivation between two electrodes: ``Fp1-F7``, ``A2-A1``, but not ``F3-A2``."""
    parts = electrode_parts(name)
    if len(parts) < 2 or not all(map(like_electrode, parts[:2])):
        return False
    both_ears = _NAMES.get(parts[0].casefold()) in _EARS and _is_ear_name(parts[1])
    return both_ears or not _is_reference(parts[1])


def other_kind(name: str) -> str | None:
    """Return the kind of a channel that is typed EEG and by its name is not (``"eye"``, ``"heart"``, …), or None.

    EDF carries no channel types, so that readers call every channel EEG.
    """
    if standard_name(name) is not None:
        return None
    tokens = re.split(r"[\s_]+", electrode_parts(name)[0])
    matches = chain.from_iterable((kind for kind, regex in _NOT_EEG.items() if regex.fullmatch(t)) for t in tokens)
    return next(matches, None)


def _is_reference(part: str) -> bool:
    return part.casefold() in _REFERENCES


def _is_ear_name(part: str) -> bool:
    return part.upper() in _EARS


def like_electrode(part: str) -> bool:
    """Check whether a name or a part of one looks like an electrode's: standard, or a few letters and a number."""
    return part.casefold() in _NAMES or _NUMBERED.fullmatch(part) is not None


def match_names(recorded: Sequence[str], listed: Sequence[str], *, scalp: bool = True) -> dict[str, int]:
    """Match channel names of a recording with those of a table by the channel that they mean, not by their spelling.

    Equal names match first. Names left over match if they are equal without case, blanks, dots and underscores; then
    if they mean one electrode of the 10-05 system (`standard_name`); then if they are equal without an ``EEG`` prefix,
    a common reference and leading zeros of a number. Beyond equal names, a match must be the only one on both sides. A
    derivation between two electrodes never matches one of the two.

    Parameters
    ----------
    recorded, listed : sequence of str
        Names of the recording's channels, and of the table's rows.
    scalp : bool
        Whether names may mean scalp electrodes. Contacts in the brain have names such as T3, T7 and A2 that mean other
        contacts: T3 is not renamed T7, ``B3-A2`` is a derivation if there is a contact A2, and so is ``B3-4``.

    Returns
    -------
    dict of str to int
        Recorded name -> index into `listed`; names without a match are absent.
    """
    first = {name: index for index, name in reversed(list(enumerate(listed)))}
    found = {name: first[name] for name in recorded if name in first}
    contacts = frozenset() if scalp else frozenset(map(_spelling, [*recorded, *listed]))
    short = frozenset() if scalp else _short_derivations(recorded) | _short_derivations(listed)

    def label(name: str) -> str | None:
        return None if name in short else _label(name, contacts=contacts)

    for key in (_spelling, standard_name, label) if scalp else (_spelling, label):
        used = set(found.values())
        rows = _unique({index: key(name) for index, name in enumerate(listed) if index not in used})
        channels = _unique({name: key(name) for name in recorded if name not in found})
        found |= {name: rows[meaning] for meaning, name in channels.items() if meaning in rows}
    return found


def _unique(keys: Mapping[T, str | None]) -> dict[str, T]:
    """Return what each key stands for, for keys that stand for one thing only."""
    counts = Counter(keys.values())
    return {key: thing for thing, key in keys.items() if key and counts[key] == 1}


def _short_derivations(names: Sequence[str]) -> frozenset[str]:
    """Return names such as ``A1-2``, but not ``A1-0`` and ``A1-1``, by which MNE-Python tells repeated names apart."""
    found = {name: match[1] for name in names if (match := _SHORT.fullmatch(name))}
    n_names = Counter(found.values())
    return frozenset(name for name, base in found.items() if n_names[base] == 1)


def _spelling(name: str) -> str:
    return re.sub(r"[\s._\0]+", "", unicodedata.normalize("NFKC", name)).casefold()


def _label(name: str, *, contacts: frozenset[str] = frozenset()) -> str:
    """Return a name in small letters without prefix, common reference and leading zeros of numbers.

    The second part of a name is no common reference if it is one of the contacts, or if both parts are ears.
    """
    parts = electrode_parts(name)
    has_reference = len(parts) == 2 and _is_reference(parts[1]) and not is_bipolar(name)
    kept = parts[:1] if has_reference and _spelling(parts[1]) not in contacts else parts
    return "-".join(re.sub(r"(?<!\d)0+(?=\d)", "", _spelling(part)) for part in kept)
