"""Sections on the archive: devices, recordings, quarantine, corpus."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from emeg.reports.markup import Picture
from emeg.reports.plots import sensor_map
from emeg.sensors import Sensors, topographic_xy
from emeg.store import CatalogRow, QuarantineRecord, Store, open_recording

MOST_NAMES = 12
"""Most names shown in a list; the catalogue holds all."""


def ingested_section(store: Store, rows: Sequence[CatalogRow]) -> dict[str, Any]:
    """Return the devices, each with a sensor map, and all recordings."""
    by_device: dict[str, list[CatalogRow]] = defaultdict(list)
    for row in rows:
        by_device[row.device].append(row)
    maps = []
    for device, group in sorted(by_device.items()):
        shown = min(group, key=lambda row: (-row.n_channels, row.source))
        sensors = open_recording(store, shown.recording).sensors
        alt = f"Sensors of {device} seen from above: {_count(shown)}; {len(shown.bad_channels)} marked bad."
        maps.append(Picture(_map(sensors, shown.bad_channels), alt, f"{device}: {_count(shown)}"))
    return {
        "note": (
            "Recordings were resampled to 256 Hz and filtered to the pass band in the table. Crosses in a map mark bad"
            " channels of the recording shown. Colours: EEG teal, magnetometers yellow, gradiometers violet, SEEG red,"
            " ECOG green, DBS blue."
        ),
        "maps": maps,
        "devices": [_device(device, group) for device, group in sorted(by_device.items())],
        "recordings": [_recording(row) for row in sorted(rows, key=lambda row: (row.dataset, row.source))],
    }


def quarantine_section(refused: Sequence[QuarantineRecord], most_maps: int | None = None) -> list[dict[str, str]]:
    """Return all refused sources; the first `most_maps` (default: all) with the sensors that could be read."""
    drawn = range(len(refused) if most_maps is None else most_maps)
    return [
        {
            "svg": _map(Sensors.from_records(record.sensors), ()) if place in drawn and record.sensors else "",
            "source": record.source,
            "stage": record.stage,
            "reason": record.reason,
            "next_action": record.next_action,
        }
        for place, record in enumerate(sorted(refused, key=lambda record: (record.dataset, record.source)))
    ]


def corpus_section(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the subjects of each split."""
    segments: dict[str, int] = defaultdict(int)
    for shard in manifest["shards"]:
        segments[shard["split"]] += shard["n_segments"]
    subjects: dict[str, list[str]] = defaultdict(list)
    for subject, split in sorted(manifest["subjects"].items()):
        subjects[split].append(subject)
    seconds = float(manifest["segment_s"])
    return {
        "note": (
            f"Segments of {seconds:g} s. Subjects are split, never segments, so that no subject is in two splits. No"
            " training stage has seen the held-out subjects; the folds of the task use only them."
        ),
        "splits": [
            {
                "split": split.replace("_", " "),
                "subjects": len(subjects[split]),
                "segments": segments[split],
                "hours": f"{segments[split] * seconds / 3600:.2f}",
                "names": shorten(subjects[split]),
            }
            for split in ("train", "validation", "held_out")
        ],
    }


def shorten(names: Sequence[str]) -> str:
    """Join names; of many, only the first dozen and the number of others."""
    more = f" … ({len(names)} in all)" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _map(sensors: Sensors, bad: Sequence[str]) -> str:
    return sensor_map(topographic_xy(sensors), sensors.types, np.isin(np.array(sensors.names), list(bad)))


def _count(row: CatalogRow) -> str:
    counts = [(row.n_eeg, "EEG"), (row.n_magnetometers, "mag"), (row.n_gradiometers, "grad")]
    counts.append((row.n_channels - sum(count for count, _ in counts), "intracranial"))
    return ", ".join(f"{count} {kind}" for count, kind in counts if count)


def _device(device: str, group: Sequence[CatalogRow]) -> dict[str, Any]:
    return {
        "device": device,
        "recordings": len(group),
        "subjects": len({(row.dataset, row.subject) for row in group}),
        "minutes": f"{sum(row.duration_s for row in group) / 60:.1f}",
        "channels": _span(row.n_channels for row in group),
        "source": _span(row.sfreq_source for row in group),
        "band": f"{group[0].pass_band_low:g}–{_span(row.pass_band_high for row in group)}",
        "mains": _span(row.mains for row in group),
        "bad": f"{np.mean([len(row.bad_channels) for row in group]):.1f}",
    }


def _span(values: Any) -> str:  # noqa: ANN401 - any iterable of numbers
    kinds = sorted({round(float(value), 2) for value in values})
    return f"{kinds[0]:g}" if len(kinds) == 1 else f"{kinds[0]:g} to {kinds[-1]:g}"


def _recording(row: CatalogRow) -> dict[str, Any]:
    return {
        "source": row.source,
        "device": row.device,
        "subject": row.subject,
        "seconds": f"{row.duration_s:.1f}",
        "channels": row.n_channels,
        "events": row.n_events,
        "bad": shorten(row.bad_channels),
        "dropped": shorten([f"{name} ({reason})" for name, reason in row.dropped.items()]),
        "notes": "; ".join(row.notes),
    }
