"""Units that a file states in a spelling that MNE-Python does not know: the factor that its reader left out."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from emeg.ingest.tables.type_setting import channel_types, set_channel_types
from emeg.ingest.text_files import decode_text
from emeg.ingest.units import volts

if TYPE_CHECKING:
    import mne

_KNOWN = {
    "RawBrainVision": frozenset({"V", "mV", "\u00b5V", "uV", "nV"}),
    "RawANT": frozenset({"uv", "\u00b5v"}),
    "RawCurry": frozenset({"uV", "\u00b5V"}),  # MNE-Python writes uV as µV after it has scaled by it
}
"""Units of voltage that readers of MNE-Python 1.13 bring to volts; others they take for volts, or for no voltage."""


_CHANNEL = re.compile(r"^Ch(\d+)=[^,]*,[^,]*,[^,]*,([^,\r\n]+)", re.MULTILINE | re.IGNORECASE)
"""Number and unit of a channel in the header of BrainVision."""


def apply_stated_units(raw: "mne.io.BaseRaw") -> tuple[dict[str, float], tuple[str, ...]]:
    """Return factors to volts that the reader did not apply, and a note about them.

    A reader that does not know a unit such as ``microV`` takes the numbers for volts, and BrainVision channels for no
    EEG at all: their type is corrected.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        Open recording; types are changed in place.
    """
    known = _KNOWN.get(type(raw).__name__)
    if known is None:
        return {}, ()
    missed = {name: unit for name, unit in _stated(raw).items() if unit not in known and volts(unit) is not None}
    factors = {name: factor for name, unit in missed.items() if (factor := volts(unit)) is not None}
    types = dict(zip(raw.ch_names, channel_types(raw), strict=True))
    set_channel_types(raw, {name: "eeg" for name in factors if types[name] == "misc"})
    if not factors:
        return {}, ()
    units = ", ".join(sorted(set(missed.values())))
    return factors, (f"unit of {len(factors)} channels is spelt {units}; read as {sorted(set(factors.values()))} V",)


def _stated(raw: "mne.io.BaseRaw") -> dict[str, str]:
    """Return the units of the file's header by channel, as they are spelt there where the reader keeps that."""
    header = raw._init_kwargs.get("vhdr_fname")
    if header is not None:
        found = _CHANNEL.findall(decode_text(Path(header).read_bytes()).text)
        return {raw.ch_names[int(n) - 1]: unit.strip() for n, unit in found if 0 < int(n) <= len(raw.ch_names)}
    if type(raw).__name__ == "RawANT":
        return dict(zip(raw.ch_names, raw._raw_extras[0].get("orig_ch_units", ()), strict=False))
    return {name: str(unit) for name, unit in raw._orig_units.items() if name in raw.ch_names}
