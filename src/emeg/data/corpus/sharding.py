"""The verb ``shard``: write recordings as a frozen corpus, split by subject.

catalogue ─▶ recordings ─cut─▶ segments ─split by subject─▶ order ─▶ tar shards + tables + manifest
"""

import logging
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveFloat, PositiveInt

from emeg.config import Config, runtime_field
from emeg.data.corpus.corpus import FORMAT
from emeg.data.corpus.cutting import Cut, RecordingCache, Stretch, choose_recordings, cut, open_all
from emeg.data.corpus.registered import Registered, copied_subjects, group_name, registered
from emeg.data.corpus.split import SPLITS, Split, join_groups, split_subjects
from emeg.data.corpus.writing import CorpusWriter, Member, subject_name
from emeg.data.sampling.order import hash_order
from emeg.errors import UserError
from emeg.hashing import hash_json
from emeg.progress import Progress, silent
from emeg.store import CatalogRow, Store
from emeg.store.staging import staged
from emeg.uri import locate

logger = logging.getLogger(__name__)


class ShardConfig(Config):
    """Cut recordings into a frozen corpus, split by subject."""

    root: str = runtime_field(..., group="data")
    """Store: a folder or any fsspec URI."""
    datasets: tuple[str, ...] = ()
    """Datasets to use; all if none is given."""
    segment_s: PositiveFloat = 10.0
    """Length of a segment, s; multiples of 10 s are copied without requantising."""
    seed: int = Field(0, ge=0)
    """Seed of the split and of the order of segments."""
    held_out: float = Field(0.5, ge=0, le=1)
    """Share of subjects held out for tasks: no model trains on them; 1 for all, to evaluate a model made elsewhere."""
    validation: float = Field(0.15, ge=0, lt=1)
    """Share of the remaining subjects used for validation only."""
    held_out_subjects: tuple[str, ...] = ()
    """Subjects (dataset/subject) that are always held out; they count towards held_out."""
    exclude_devices: tuple[str, ...] = ()
    """Devices to leave out."""
    same_subjects_as: dict[str, str] = Field(default_factory=dict)
    """Dataset -> dataset with the same subjects under the same names, split together."""
    config_hashes: tuple[str, ...] = ()
    """Ingest configurations to use, for datasets ingested with several."""
    max_bad_channels: float = Field(0.5, ge=0, le=1)
    """Drop a segment if more than this share of channels is flat or NaN in any second."""
    max_shard_bytes: PositiveInt = 256 * 2**20
    """Size at which a new shard begins, bytes."""


class ShardResult(Config):
    """Summary of a corpus."""

    corpus: str
    """Corpus id: the hash of its manifest."""
    n_segments: int
    """Number of segments, all splits."""
    hours: float
    """Duration of all segments, h."""
    n_recordings: int
    """Recordings with segments in the corpus."""
    n_too_short: int
    """Recordings shorter than one segment."""
    n_left_out: int
    """Segments dropped because too many channels carry no signal."""
    n_subjects: dict[str, int]
    """Subjects in each split."""
    segments: dict[str, int]
    """Segments in each split."""
    done_before: bool
    """Whether the corpus existed before."""


def shard(config: ShardConfig, *, progress: Progress = silent) -> ShardResult:
    """Cut recordings into a corpus; an existing corpus of the same recordings and settings is returned.

    Raises
    ------
    UserError
        The catalogue is empty, a name is unknown, recordings do not fit together, or there are too few subjects.
    """
    store = Store.open(config.root)
    rows = choose_recordings(store, config.datasets, config.exclude_devices, config.config_hashes)
    rules = registered(store, {row.dataset for row in rows})
    copied = copied_subjects(store, rows)
    made_of = {"format": FORMAT, "config": config.product_fields(), "recordings": [row.recording for row in rows]}
    made_from = hash_json({**made_of, **_as_json(rules), **({"copied_people": copied} if copied else {})})
    for name in store.names("corpora"):
        manifest = store.location("corpora", name, "manifest.json").read_json()
        if manifest.get("made_from") == made_from:
            return _result(name, manifest, done_before=True)
    store.sweep()
    opened = open_all(store, rows)
    cuts = []
    for i, row in enumerate(rows):
        cuts.append(_cut_row(opened, i, config))
        progress(i + 1, len(rows), f"reading marks of {row.dataset}/{row.subject}")
    members, subjects = _arrange(rows, cuts, config, rules, copied)
    manifest = {**_describe(config, made_from, rows, cuts, subjects), **_as_json(rules)}
    # the name is a hash of the shards' hashes, so the shards are written first
    with staged(store.root, f"shard-{made_from}") as folder:
        writer = CorpusWriter(folder, rows, opened, members, manifest["segment_samples"], config.max_shard_bytes)
        manifest["shards"] = writer.write(progress)
        name = hash_json(manifest)
        if not store.has("corpora", name):
            with store.publishing("corpora", name) as target:
                _publish(folder, target, manifest)
    result = _result(name, manifest, done_before=False)
    logger.info("corpus %s: %d segments, %.2f h", name, result.n_segments, result.hours)
    return result


def _cut_row(opened: RecordingCache, number: int, config: ShardConfig) -> Cut:
    recording = opened[number]
    n_segment = config.segment_s * recording.sfreq
    if n_segment != round(n_segment):
        raise UserError(
            f"segment_s={config.segment_s} s is {n_segment} samples at {recording.sfreq} Hz;"
            " choose a whole number of samples"
        )
    return cut(recording, round(n_segment), config.max_bad_channels)


def _arrange(
    rows: Sequence[CatalogRow],
    cuts: Sequence[Cut],
    config: ShardConfig,
    rules: Registered,
    copied: Sequence[tuple[str, str]],
) -> tuple[list[Member], dict[str, Split]]:
    """Split the subjects and order the segments by channel count, split, and a hash keyed with the seed."""
    for unit, found in (("Hz", {c.sfreq for c in cuts}), ("samples a chunk", {c.chunk for c in cuts})):
        if len(found) > 1:
            raise UserError(
                f"recordings have {sorted(found)} {unit}, a corpus needs one;"
                " choose an ingest configuration with config_hashes"
            )
    devices: dict[str, set[str]] = defaultdict(set)
    for row, one in zip(rows, cuts, strict=True):
        if one.starts:
            devices[subject_name(row)].add(row.device)
    if not devices:
        raise UserError(f"no recording is as long as segment_s={config.segment_s} s; choose a shorter segment_s")
    pairs = [*config.same_subjects_as.items(), *rules.same_people]
    groups_before = {name: group_name(name, pairs) for name in devices}
    group_of = join_groups(groups_before, (pair for pair in copied if set(pair) <= devices.keys()))
    groups = {group_of[name] for name in rules.held_out_subjects(devices)}
    closed = {name for name, group in group_of.items() if group in groups}
    if len(closed) == len(devices) and config.held_out < 1:
        raise UserError(
            f"no subject is left for training: {'; '.join(rules.held_out.values())}; ingest other datasets as well, or"
            " hold everybody out with held_out 1"
        )
    subjects = split_subjects(
        {name: found for name, found in devices.items() if name not in closed},
        held_out=config.held_out,
        validation=config.validation,
        seed=config.seed,
        held_out_subjects=[name for name in config.held_out_subjects if name not in closed],
        group_of=group_of,
    )
    # in addition to the share held out of the others: otherwise a large task dataset would use up that share
    subjects = dict(sorted({**subjects, **dict.fromkeys(closed, SPLITS[-1])}.items()))
    by_key = {
        f"{row.recording} {start}": Member(Stretch(i, start), subjects[subject_name(row)], row.n_channels)
        for i, (row, one) in enumerate(zip(rows, cuts, strict=True))
        for start in one.starts
    }
    members = [by_key[key] for key in hash_order(list(by_key), "order", config.seed)]
    return sorted(members, key=lambda m: (m.channels, SPLITS.index(m.split))), subjects


def _as_json(rules: Registered) -> dict[str, Any]:
    """Return the rules as the manifest stores them; empty if there are none."""
    if not rules:
        return {}
    return {"registry": {"held_out": rules.held_out, "same_people": [list(pair) for pair in rules.same_people]}}


def _describe(
    config: ShardConfig,
    made_from: str,
    rows: Sequence[CatalogRow],
    cuts: Sequence[Cut],
    subjects: dict[str, Split],
) -> dict[str, Any]:
    """Return the manifest without its list of shards."""
    sfreq = cuts[0].sfreq
    return {
        "format": FORMAT,
        "made_from": made_from,
        "sfreq": sfreq,
        "segment_s": config.segment_s,
        "segment_samples": round(config.segment_s * sfreq),
        "chunk_samples": cuts[0].chunk,
        "config": config.product_fields(),
        "split_rule": "by person; strata are sets of devices; drawn by a hash keyed with the seed",
        "subjects": dict(subjects),
        "held_out_subjects": sorted(s for s, split in subjects.items() if split == "held_out"),
        "excluded_devices": sorted(config.exclude_devices),
        "recordings": [
            {
                "recording": row.recording,
                "subject": subject_name(row),
                "device": row.device,
                "n_samples": one.n_samples,
                "n_segments": len(one.starts),
                "n_left_out": one.n_left_out,
            }
            for row, one in zip(rows, cuts, strict=True)
        ],
    }


def _publish(folder: Path, target: Path, manifest: dict[str, Any]) -> None:
    for item in sorted(folder.iterdir()):
        shutil.move(item, target / item.name)
    (locate(target) / "manifest.json").write_json(manifest)


def _result(name: str, manifest: dict[str, Any], *, done_before: bool) -> ShardResult:
    segments: Counter[str] = Counter()
    for one in manifest["shards"]:
        segments[one["split"]] += one["n_segments"]
    people = Counter(manifest["subjects"].values())
    recordings = manifest["recordings"]
    return ShardResult(
        corpus=name,
        n_segments=segments.total(),
        hours=segments.total() * manifest["segment_s"] / 3600,
        n_recordings=sum(r["n_segments"] > 0 for r in recordings),
        n_too_short=sum(r["n_segments"] + r["n_left_out"] == 0 for r in recordings),
        n_left_out=sum(r["n_left_out"] for r in recordings),
        n_subjects={split: people[split] for split in SPLITS},
        segments={split: segments[split] for split in SPLITS},
        done_before=done_before,
    )
