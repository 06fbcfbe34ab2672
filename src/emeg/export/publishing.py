"""The verb ``export-bids``: write recordings of a store as one BIDS derivative dataset, complete or not at all."""

import logging
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from emeg.bids_files import write_json, write_table
from emeg.errors import UserError
from emeg.export.config import ExportBidsConfig, ExportBidsResult
from emeg.export.description import (
    SourceDataset,
    dataset_description,
    readme,
    source_datasets,
)
from emeg.export.naming import NamedRecording, name_recordings
from emeg.export.sidecars import (
    channel_rows,
    coordinate_system,
    electrode_rows,
    event_columns,
    event_rows,
    recording_json,
)
from emeg.export.tables import ExportedFacts
from emeg.hashing import NAME_LENGTH, hash_json
from emeg.locks import locked
from emeg.progress import Progress, silent
from emeg.store import (
    CatalogConfig,
    CatalogRow,
    Store,
    open_recording,
    query_catalog,
    read_catalog,
    read_events,
)
from emeg.store.staging import flush
from emeg.uri import locate
from emeg.version import __version__

logger = logging.getLogger(__name__)

MARKER = "code/emeg-export.json"
"""File that names the export and the files of each recording; written last. BIDS validators skip code/."""

FORMAT = 2
"""Version of what is written; part of an export's name."""


def export_bids(config: ExportBidsConfig, *, progress: Progress = silent) -> ExportBidsResult:
    """Write recordings as a BIDS derivative dataset, unless it exists already.

    The files are written to a folder beside `out`, which becomes `out` when everything is written. A stopped
    run leaves that folder, and the next run continues after the finished recordings. One stretch of a signal is held
    in memory at a time.

    Raises
    ------
    UserError
        There is no store or nothing fits, or `out` holds something else.
    RecordingError
        A recording is damaged; `emeg verify` lists all damaged ones.
    """
    store = Store.open(config.root)
    rows = selected(store, config)
    out = locate(config.out).local_path()
    named, sources = name_recordings(rows), source_datasets(store, rows)
    facts = ExportedFacts(store, named)
    made_of = {"format": FORMAT, "version": __version__, "recordings": [row.recording for row in rows]}
    export = hash_json({**made_of, **facts.content})
    done_before = _holds(out, export)
    if not done_before:
        with _staging(out, export) as folder:
            for done, one in enumerate(named, start=1):
                _export_recording(store, one, sources, folder)
                progress(done, len(named), one.name())
            _write_dataset(folder, facts, sources, export)
            _publish(folder, out)
        logger.info("wrote %s: %d recordings", out, len(named))
    return ExportBidsResult(
        export=export,
        n_recordings=len(rows),
        n_subjects=len({one.subject for one in named}),
        hours=sum(row.duration_s for row in rows) / 3600.0,
        licences=tuple(sorted({source.licence or "not stated" for source in sources})),
        done_before=done_before,
        path=str(out),
    )


def selected(store: Store, config: ExportBidsConfig) -> list[CatalogRow]:
    """Return the rows that the configuration selects, by recording."""
    answer = query_catalog(CatalogConfig(root=config.root, where=config.where, columns=("recording",)))
    wanted = {str(recording) for (recording,) in answer.rows}
    every = read_catalog(store)
    rows = [row for row in every if row.recording in wanted and config.dataset in {None, row.dataset}]
    if not rows:
        datasets = ", ".join(sorted({row.dataset for row in every})) or "none"
        raise UserError(
            f"{config.root}: no recording fits dataset {config.dataset or '(any)'} and"
            f" where {config.where or '(all)'!r}; choose from the datasets {datasets}, or widen --where"
        )
    return rows


def _holds(out: Path, export: str) -> bool:
    """Return whether `out` is this export; false where it is empty or missing."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    marker = locate(out) / MARKER
    if not marker.exists():
        raise UserError(f"{out}: exists and is no export of emeg; name another folder, or empty this one")
    found = marker.read_json().get("export")
    if found != export:
        raise UserError(
            f"{out}: holds the export {found} of other recordings or of another version, not {export};"
            " name another folder, or remove this one"
        )
    return True


@contextmanager
def _staging(out: Path, export: str) -> Iterator[Path]:
    """Yield the folder that becomes `out`, with what an earlier run finished; no other process writes there."""
    out.parent.mkdir(parents=True, exist_ok=True)
    _sweep(out, export)
    folder = out.parent / f".partial-{out.name}-{export}"
    with locked(_lock_of(folder), remove=True) as free:
        if not free:
            raise UserError(f"{out}: another run is writing this export; wait for it")
        folder.mkdir(exist_ok=True)
        yield folder


def _sweep(out: Path, export: str) -> None:
    """Remove the files of stopped runs of other exports to the same folder."""
    name = re.compile(rf"\.partial-{re.escape(out.name)}-[0-9a-f]{{{NAME_LENGTH}}}")
    for folder in sorted(out.parent.iterdir()):
        if name.fullmatch(folder.name) and not folder.name.endswith(export):
            with locked(_lock_of(folder), remove=True) as free:
                if free:
                    shutil.rmtree(folder)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _export_recording(store: Store, one: NamedRecording, sources: Sequence[SourceDataset], out: Path) -> None:
    """Write a recording's files, its JSON last: with it the recording is complete."""
    folder = out / one.folder
    sidecar = folder / f"{one.name()}_{one.datatype}.json"
    if sidecar.exists():
        return
    from emeg.export.signal_files import write_brainvision, write_fif

    folder.mkdir(parents=True, exist_ok=True)
    row = one.row
    recording = open_recording(store, row.recording)
    if one.datatype != "meg":
        write_brainvision(recording, folder, f"{one.name()}_{one.datatype}")
        write_table(folder / f"{one.electrodes}_electrodes.tsv", electrode_rows(recording.sensors))
    else:
        bad = tuple(name for name in row.bad_channels if name not in row.interpolated)
        write_fif(recording, folder, one.name(), bad=bad)
    coordinates = coordinate_system(recording.sensors, one.datatype)
    write_json(folder / f"{one.space}_coordsystem.json", coordinates)
    write_table(folder / f"{one.name()}_channels.tsv", channel_rows(recording, row))
    events = event_rows(read_events(store, row.recording), recording, row)
    if events:
        write_table(folder / f"{one.name()}_events.tsv", events)
        write_json(folder / f"{one.name()}_events.json", event_columns(recording.sensors))
    flush(folder)
    linked = [source.name for source in sources if source.name == row.dataset and source.url]
    write_json(sidecar, recording_json(recording, row, [f"bids:{name}:{row.source}" for name in linked]))


def _write_dataset(folder: Path, facts: ExportedFacts, sources: Sequence[SourceDataset], export: str) -> None:
    named = facts.named
    write_json(folder / "dataset_description.json", dataset_description(sources, export))
    (folder / "README.md").write_text(readme(sources, named), encoding="utf-8")
    facts.write(folder)
    files = {one.row.recording: f"{one.folder}/{one.name()}" for one in named}
    (folder / MARKER).parent.mkdir(exist_ok=True)
    write_json(folder / MARKER, {"export": export, "recordings": dict(sorted(files.items()))})


def _publish(folder: Path, out: Path) -> None:
    flush(folder)
    try:
        folder.replace(out)
    except OSError as error:  # only over a folder that is empty
        raise UserError(
            f"{out}: something was put there while the export was written ({error.strerror});"
            f" the export is in {folder}: move it"
        ) from error
    flush(out.parent, deep=False)
