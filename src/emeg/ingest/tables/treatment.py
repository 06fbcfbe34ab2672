"""Apply the entry of the registry or a file mapping for a recording: names, types, exclusions, units."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from emeg.errors import RecordingError
from emeg.ingest.tables.channels import ChannelTable
from emeg.ingest.tables.type_setting import INTRACRANIAL, set_channel_types
from emeg.registry import Treatment

if TYPE_CHECKING:
    import mne

_EXCLUDED = "excluded by the dataset's entry"


class Treated(NamedTuple):
    """Result of `treat`: the table under the new names, and the excluded channels with the reason."""

    table: ChannelTable
    excluded: dict[str, str]


def treat(raw: "mne.io.BaseRaw", table: ChannelTable, treatment: Treatment | None) -> Treated:
    """Rename, retype and exclude channels of an open recording, in this order, and scale EEG and MEG to volt and tesla.

    Renaming comes after the sidecars were matched, since they know the file's own names.

    Raises
    ------
    RecordingError
        Two channels would have one name, or nothing would be left.
    """
    if treatment is None:
        return Treated(table, {})
    new = {name: treatment.new_name(name) for name in raw.ch_names}
    doubled = sorted({name for name in new.values() if list(new.values()).count(name) > 1})
    if doubled:
        raise RecordingError(
            f"the dataset's entry would call {sum(n == doubled[0] for n in new.values())} channels {doubled[0]!r}",
            stage="sensors",
            next_action="correct the entry's renames",
        )
    raw.rename_channels({old: name for old, name in new.items() if old != name}, verbose="ERROR")
    forced = {name: kind for name in raw.ch_names if (kind := treatment.forced_type(name)) is not None}
    set_channel_types(raw, forced)
    excluded = {name: _EXCLUDED for name in raw.ch_names if treatment.excludes(name)}
    if len(excluded) == len(raw.ch_names):
        raise RecordingError("the dataset's entry excludes every channel", stage="sensors", next_action="correct it")
    raw.drop_channels(list(excluded))
    scales = {new[name]: factor for name, factor in table.scales.items() if name in new}
    if treatment.units_scale != 1.0:
        kinds = dict(zip(raw.ch_names, raw.get_channel_types(), strict=True))
        for name in raw.ch_names:
            if kinds[name] in {"eeg", "mag", "grad", *INTRACRANIAL}:
                scales[name] = float(np.float64(scales.get(name, 1.0)) * treatment.units_scale)
    bad = frozenset(new.get(name, name) for name in table.bad) - excluded.keys()
    return Treated(ChannelTable(scales, bad, table.notes), excluded)


def count_note(n_channels: int, treatment: Treatment | None) -> tuple[str, ...]:
    """Return a note if a recording has another number of channels than the dataset's entry expects."""
    if treatment is None or treatment.expected is None or treatment.expected.fits(n_channels):
        return ()
    return (f"{n_channels} channels are left, the dataset's entry expects {treatment.expected.expected}",)
