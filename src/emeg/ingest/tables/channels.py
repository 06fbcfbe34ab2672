"""Types, units and bad marks from `channels.tsv`, applied to the open file."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from emeg.errors import RecordingError
from emeg.ingest.tables.sidecars import Rows, Sidecars
from emeg.ingest.tables.stated_units import apply_stated_units
from emeg.ingest.tables.type_setting import INTRACRANIAL, channel_types, mne_type, set_channel_types
from emeg.ingest.text_files import ABSENT
from emeg.ingest.units import volts
from emeg.sensors import match_names, standard_name

if TYPE_CHECKING:
    import mne


@dataclass(frozen=True)
class ChannelTable:
    """What `channels.tsv` changes besides types: factors for channels whose file has no unit, and bad marks."""

    scales: dict[str, float]
    bad: frozenset[str]
    notes: tuple[str, ...]


def apply_channels(raw: "mne.io.BaseRaw", sidecars: Sidecars, *, scalp: bool = True) -> ChannelTable:
    """Set the types that `channels.tsv` states; MEG channels keep those of their coils.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        Changed in place.
    sidecars : Sidecars
    scalp : bool
        Whether names may mean scalp electrodes (`match_names`).

    Raises
    ------
    RecordingError
        The table has no names, or knows none of the recording's channels.
    """
    factors, unit_notes = apply_stated_units(raw)
    notes = list(unit_notes)
    bad = set(raw.info["bads"])
    if not sidecars.channels:
        return ChannelTable(factors, frozenset(bad), tuple(notes))
    rows = _match(raw, sidecars.channels, notes, sidecars.path("channels"), scalp=scalp)
    types = dict(zip(raw.ch_names, channel_types(raw), strict=True))
    wanted = {}
    for name, row in rows.items():
        kind = row.get("type", "").lower()
        if kind not in ABSENT and not kind.startswith("meg") and types[name] not in {"mag", "grad", "ref_meg"}:
            wanted[name] = mne_type(kind)
        if _is_bad(row):
            bad.add(name)
    changed = {name: kind for name, kind in wanted.items() if types[name] != kind}
    set_channel_types(raw, changed)
    return ChannelTable(factors | _scales(raw, rows, wanted, notes), frozenset(bad), tuple(notes))


def _match(
    raw: "mne.io.BaseRaw", table: Rows, notes: list[str], path: str, *, scalp: bool
) -> dict[str, dict[str, str]]:
    """Return rows by channel: by name, or by order where as many rows as channels have other names."""
    rows = _distinct(table, path)
    indices = match_names(raw.ch_names, [row["name"] for row in rows], scalp=scalp)
    if not indices and len(table) == len(raw.ch_names) == len(rows):
        return _by_order(raw, table, notes)
    if not indices:
        raise RecordingError(
            f"{path} names none of the recording's {len(raw.ch_names)} channels (it begins {table[0]['name']!r}, the"
            f" recording {raw.ch_names[0]!r})",
            next_action="correct the names in channels.tsv",
        )
    found = {name: rows[index] for name, index in indices.items()}
    _note_differences(raw.ch_names, rows, found, notes)
    return found


def _note_differences(recorded: list[str], rows: Rows, found: dict[str, dict[str, str]], notes: list[str]) -> None:
    """Note names that are spelt otherwise or missing on one side, and bad marks that belong to no channel."""
    respelt = [name for name, row in found.items() if row["name"] != name]
    if respelt:
        notes.append(
            f"channels.tsv: {len(respelt)} names are spelt otherwise than in the file, such as"
            f" {found[respelt[0]]['name']!r} for {respelt[0]!r}; matched by the electrode that they mean"
        )
    absent = [name for name in recorded if name not in found]
    if absent:
        notes.append(f"channels.tsv: {len(absent)} channels of the file are not in it, such as {absent[0]!r}")
    used = {row["name"] for row in found.values()}
    extra = [row for row in rows if row["name"] not in used]
    if extra:
        notes.append(f"channels.tsv: {len(extra)} of its channels are not in the file, such as {extra[0]['name']!r}")
    lost = [row["name"] for row in extra if _is_bad(row)]
    if lost:
        notes.append(f"channels.tsv: {len(lost)} channels marked bad are not in the file, such as {lost[0]!r}")


def _is_bad(row: dict[str, str]) -> bool:
    return row.get("status", "").lower() == "bad"


def _distinct(table: Rows, path: str) -> Rows:
    """Return the rows with each name once; one name twice must say the same twice."""
    found: dict[str, dict[str, str]] = {}
    for row in table:
        if found.setdefault(row["name"], row) != row:
            raise RecordingError(
                f"{path} names {row['name']!r} twice, with different entries",
                next_action="remove the wrong row from channels.tsv",
            )
    return list(found.values())


def _by_order(raw: "mne.io.BaseRaw", table: Rows, notes: list[str]) -> dict[str, dict[str, str]]:
    """Match rows with channels one by one; where only the table's names are electrodes, the channels take them."""
    electrodes = [row["name"] for row in table if standard_name(row["name"])]
    if electrodes and not any(map(standard_name, raw.ch_names)):
        notes.append(f"channels.tsv: matched by order, and names such as {electrodes[0]!r} taken from it")
        raw.rename_channels(dict(zip(raw.ch_names, (row["name"] for row in table), strict=True)), verbose="ERROR")
    else:
        notes.append("channels.tsv: names differ from the file's; matched by order")
    return dict(zip(raw.ch_names, table, strict=True))


def _scales(
    raw: "mne.io.BaseRaw", rows: dict[str, dict[str, str]], wanted: dict[str, str], notes: list[str]
) -> dict[str, float]:
    """Return factors to volts for channels whose file states no unit; the others are in volts already."""
    stated = raw._orig_units
    scales = {}
    differing: dict[tuple[str, str], list[str]] = {}
    for name, kind in wanted.items():
        unit = volts(rows[name].get("units", ""))
        own = str(stated.get(name, "")).lower()
        if kind not in {"eeg", *INTRACRANIAL} or unit is None or not stated:
            continue
        if own in {"", "n/a", "none", "na"} and unit != 1.0:
            scales[name] = unit
        elif volts(own) not in {None, unit}:
            differing.setdefault((rows[name]["units"], str(stated[name])), []).append(name)
    for (listed, in_file), names in differing.items():
        notes.append(
            f"channels.tsv: {len(names)} channels, such as {names[0]!r}, are in {listed} there, but the file says"
            f" {in_file}; the file's unit was used"
        )
    if scales:
        notes.append(f"unit of {len(scales)} channels taken from channels.tsv, since the file states none")
    return scales
