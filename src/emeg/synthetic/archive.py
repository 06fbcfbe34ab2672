"""Write the simulated archive: subjects, runs, devices, and the folder of the dataset."""

import json
import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from emeg.bids_files import write_json, write_table
from emeg.errors import UserError
from emeg.progress import Progress, silent
from emeg.synthetic.activity import Activity, draw_activity
from emeg.synthetic.config import INTRACRANIAL_NAMES, SynthesizeConfig, SynthesizeResult
from emeg.synthetic.design import Design, imagery_run, short_run
from emeg.synthetic.devices import DEVICES, Device, describe_sensors, reference_rows
from emeg.synthetic.files import write_recording
from emeg.synthetic.leadfield import leadfield
from emeg.synthetic.people import Person, draw_person
from emeg.synthetic.randomness import generator
from emeg.synthetic.recording import draw_bad_channels, record
from emeg.synthetic.sources import Sources, place_sources
from emeg.uri import locate
from emeg.version import __version__

logger = logging.getLogger(__name__)

TRUTH = "sourcedata/truth.json"
"""Truth about the data, written last: an archive is complete if and only if it has this file."""


@dataclass(frozen=True)
class Run:
    """One run of a subject's source activity and the devices that record it."""

    name: str
    design: Design
    devices: tuple[str, ...]


def synthesize(config: SynthesizeConfig, *, progress: Progress = silent) -> SynthesizeResult:
    """Write the archive, or return the complete one that exists.

    Parameters
    ----------
    config : SynthesizeConfig
        `out` appears only when it is complete; until then a folder beside it is used.
    progress : Progress, optional
        Called after every subject.

    Returns
    -------
    SynthesizeResult

    Raises
    ------
    UserError
        The folder holds something else, or an archive of other settings.
    """
    out = locate(config.out).local_path()
    known = _existing(out, config)
    if known is not None:
        return _result(config, known, done_before=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = out.parent / f".partial-{out.name}"
    if staging.exists():  # a run was killed
        shutil.rmtree(staging)
    staging.mkdir()
    try:
        truth = _write_archive(staging, config, progress)
        if out.exists():
            out.rmdir()  # known to be empty
        staging.rename(out)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    result = _result(config, truth, done_before=False)
    logger.info(
        "wrote %s: %d recordings of %d people, %.2f h", out, result.n_recordings, result.n_subjects, result.hours
    )
    return result


def _existing(out: Path, config: SynthesizeConfig) -> dict[str, Any] | None:
    """Return the truth of a complete archive of the same settings, or None if the folder is absent or empty."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    truth_path = out / TRUTH
    if not truth_path.is_file():
        raise UserError(
            f"{out}: exists and is not a simulated archive; choose another folder with --out, or empty this one"
        )
    truth: dict[str, Any] = json.loads(truth_path.read_text(encoding="utf-8"))
    if truth.get("archive") != config.archive_hash:
        raise UserError(
            f"{out}: holds the simulated archive {truth.get('archive')} of other settings or another version,"
            f" not {config.archive_hash}; choose another folder with --out, or remove this one"
        )
    return truth


def _write_archive(folder: Path, config: SynthesizeConfig, progress: Progress) -> dict[str, Any]:
    people: list[dict[str, Any]] = [{}] * config.n_subjects
    for done, (index, person) in enumerate(_each_person(folder, config), start=1):
        people[index] = person
        progress(done, config.n_subjects, f"sub-{person['person']['label']}")
    _write_dataset_files(folder, config, people)
    truth = {
        "archive": config.archive_hash,
        "version": __version__,
        "config": config.product_fields(),
        "people": [person["person"] for person in people],
        "recordings": {path: facts for person in people for path, facts in person["recordings"].items()},
        "simultaneous": [group for person in people for group in person["simultaneous"]],
    }
    (folder / TRUTH).parent.mkdir()
    write_json(folder / TRUTH, truth)
    return truth


def _each_person(folder: Path, config: SynthesizeConfig) -> Iterator[tuple[int, dict[str, Any]]]:
    """Record all subjects, in several processes if configured, and yield each when finished."""
    workers = min(config.workers, config.n_subjects)
    if workers == 1:
        for index in range(config.n_subjects):
            yield index, record_person(folder, config, index)
        return
    # spawned processes: threads and torch in the caller do not survive a fork
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        pending = {pool.submit(record_person, folder, config, index): index for index in range(config.n_subjects)}
        for future in as_completed(pending):
            yield pending[future], future.result()


def plan_runs(config: SynthesizeConfig, index: int, person: Person) -> list[Run]:
    """Plan the runs of subject number `index`.

    Every subject has the imagery run. The other devices alternate in the short runs, which are rest for every third
    subject and tones for the others.
    """
    runs = []
    if config.imagery_device is not None:
        rng = generator(config.seed, person.label, "imagery", "design")
        design = imagery_run(n_trials=config.n_trials, imagery_s=config.imagery_s, rest_s=config.rest_s, rng=rng)
        runs.append(Run("imagery", design, (config.imagery_device,)))
    first = index * config.devices_per_subject
    devices = tuple(
        config.rotation[(first + turn) % len(config.rotation)] for turn in range(config.devices_per_subject)
    )
    for group in [devices] if config.simultaneous else [(device,) for device in devices]:
        if group:
            name = "short" if config.simultaneous else f"short-{group[0]}"
            rng = generator(config.seed, person.label, name, "design")
            design = short_run("rest" if index % 3 == 0 else "tones", duration_s=config.short_s, rng=rng)
            runs.append(Run(name, design, group))
    return runs


def record_person(folder: Path, config: SynthesizeConfig, index: int) -> dict[str, Any]:
    """Record all runs of one subject and return the truth about them."""
    person = draw_person(index, n_subjects=config.n_subjects, seed=config.seed)
    sources = place_sources(person, seed=config.seed)
    recordings: dict[str, dict[str, Any]] = {}
    simultaneous: list[list[str]] = []
    # one thread: for narrow matrices, synchronising threads costs more than they save
    with threadpool_limits(1):
        for run in plan_runs(config, index, person):
            activity = draw_activity(person, sources, run.design, seed=config.seed, run=run.name)
            seen = dict(
                _record_device(folder, config, person, sources, run, activity, DEVICES[name]) for name in run.devices
            )
            recordings |= seen
            if len(seen) > 1:
                simultaneous.append(list(seen))
    return {"person": asdict(person), "recordings": recordings, "simultaneous": simultaneous}


def _record_device(
    folder: Path,
    config: SynthesizeConfig,
    person: Person,
    sources: Sources,
    run: Run,
    activity: Activity,
    device: Device,
) -> tuple[str, dict[str, Any]]:
    """Record one run by one device; return the path in the dataset and the truth about it."""
    info = describe_sensors(device, person, seed=config.seed)
    rng = generator(config.seed, person.label, run.name, device.name, "recording")
    n_sensors = len(info["ch_names"]) - len(reference_rows(info))
    bad = draw_bad_channels(tuple(info["ch_names"][:n_sensors]), config.bad_channels, rng)
    raw = record(device, info, leadfield(info, person, sources), activity, bad, rng)
    entities = f"sub-{person.label}_task-{run.design.task}_acq-{device.name}"
    path = write_recording(folder / f"sub-{person.label}" / device.datatype, entities, raw, device, run.design, person)
    facts = {
        "device": device.name,
        "task": run.design.task,
        "duration_s": run.design.duration_s,
        "mains_hz": device.mains_hz,
        "flat": list(bad.flat),
        "noisy": list(bad.noisy),
        "blinks_s": list(activity.blinks_s),
    }
    return path.relative_to(folder).as_posix(), facts


def _write_dataset_files(folder: Path, config: SynthesizeConfig, people: list[dict[str, Any]]) -> None:
    write_json(
        folder / "dataset_description.json",
        {
            "Name": "synthetic",
            "BIDSVersion": "1.10.0",
            "DatasetType": "raw",
            "License": "CC0-1.0",
            "Authors": ["emeg"],
            "GeneratedBy": [{"Name": "emeg synthesize", "Version": __version__}],
        },
    )
    write_table(
        folder / "participants.tsv",
        [
            {"participant_id": f"sub-{p['label']}", "age": p["age"], "sex": p["sex"], "group": p["group"]}
            for p in (person["person"] for person in people)
        ],
    )
    write_json(
        folder / "participants.json",
        {
            "age": {"Description": "Age", "Units": "year"},
            "sex": {"Description": "Sex", "Levels": {"F": "female", "M": "male"}},
            "group": {
                "Description": "Whether rhythms are slowed",
                "Levels": {"control": "alpha about 10 Hz", "slowed": "alpha about 8 Hz, a steeper background"},
            },
        },
    )
    text = _README.format(devices=", ".join(config.devices))
    if set(config.devices) & set(INTRACRANIAL_NAMES):
        text += _INTRACRANIAL_README
    (folder / "README.md").write_text(text, encoding="utf-8")


_README = """# Simulated EEG and MEG

No person was recorded. Simulated devices ({devices}) measure current dipoles in spherical heads through
leadfields computed by MNE-Python. Sources have a 1/f background, alpha, theta and mu rhythms in bursts, responses to
tones, and blinks; imagery of a hand reduces mu over the opposite hemisphere. Every second subject has slowed rhythms.
Recordings contain sensor noise, drift and mains, and some have flat or noisy channels that are not marked in
`channels.tsv`.

`sourcedata/truth.json` lists what was simulated, and which recordings show the same source activity at the same time.
"""


_INTRACRANIAL_README = """
Every subject has other intracranial electrodes. Positions are in MNI152 coordinates, those of every second subject in
ACPC coordinates.
"""


def _result(config: SynthesizeConfig, truth: dict[str, Any], *, done_before: bool) -> SynthesizeResult:
    recordings = truth["recordings"].values()
    return SynthesizeResult(
        out=config.out,
        archive=truth["archive"],
        devices=tuple(sorted({facts["device"] for facts in recordings})),
        n_subjects=len(truth["people"]),
        n_recordings=len(recordings),
        n_simultaneous=len(truth["simultaneous"]),
        hours=sum(facts["duration_s"] for facts in recordings) / 3600.0,
        done_before=done_before,
    )
