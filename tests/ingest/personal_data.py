"""An archive with planted names and dates in every field of every format, and all text of a store."""

import datetime
import json
import re
import tarfile
from pathlib import Path

import mne
import numpy as np
import zarr
from tests.ingest.maker_formats import Planted, write_ctf, write_gdf, write_mff, write_nicolet, write_persyst

from emeg.store import Store, catalog_table, read_catalog, read_events, read_quarantine

NAME = "Quillfeather"
SERIAL = "Zx93-Marchbanks"
BORN, MEASURED = datetime.date(1961, 7, 23), datetime.datetime(1987, 11, 29, 13, 37, 41, tzinfo=datetime.UTC)
DATES = ("1961-07-23", "19610723", "23.07.61", "23-JUL-1961", "1987-11-29", "19871129", "29.11.87", "29-NOV-1987")
FORBIDDEN = ("quillfea", "marchbanks", *(date.lower() for date in DATES))
CHANNELS = ("Fp1", "Fp2", "C3", "C4", "P3", "P4", "O1", "O2", "F7", "F8")
FORMATS = ("edf", "bdf", "vhdr", "fif", "set")
REMARKS = (f"{NAME} coughs", f"said {NAME} on 29.11.1987")


def planted() -> mne.io.RawArray:
    info = mne.create_info(list(CHANNELS), 128.0, "eeg")
    info["subject_info"] = {
        "his_id": NAME,
        "first_name": NAME,
        "last_name": NAME,
        "birthday": BORN,
        "sex": 2,
        "hand": 1,
    }
    info["device_info"] = {"type": SERIAL, "model": SERIAL, "serial": SERIAL, "site": NAME}
    info["description"] = f"recorded by {NAME} on 1987-11-29"
    info["experimenter"] = NAME
    rng = np.random.default_rng(3)
    signal_CN = 1e-5 * (rng.standard_normal(20 * 128) + 0.7 * rng.standard_normal((10, 20 * 128)))
    raw = mne.io.RawArray(signal_CN, info, verbose="ERROR")
    raw.set_montage("colin27_1005")
    raw.set_meas_date(MEASURED)
    texts = ["left", "right", "left", *REMARKS]
    raw.set_annotations(mne.Annotations(np.arange(1.0, 6.0), 0.5, texts, orig_time=MEASURED))
    return raw


def write(raw: mne.io.RawArray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".fif":
        raw.save(path, verbose="ERROR")
        return
    mne.export.export_raw(path, raw, verbose="ERROR")
    if path.suffix in {".edf", ".bdf"}:  # patient, recording, transducer and prefilter as devices write them
        header = bytearray(path.read_bytes())
        header[8:88] = f"{NAME} F 23-JUL-1961 {NAME}".ljust(80).encode()
        header[88:168] = f"Startdate 29-NOV-1987 {NAME} {NAME} {SERIAL}".ljust(80).encode()
        header[168:176] = b"29.11.87"
        n = int(header[252:256])
        header[256 + 16 * n : 256 + 96 * n] = SERIAL.ljust(80).encode() * n
        path.write_bytes(bytes(header))
    elif path.suffix == ".vhdr":
        text = path.read_text() + f"\nPatient {NAME}, born 23.07.1961\nSerial number {SERIAL}\n"
        path.write_text(text)
        marks = path.with_suffix(".vmrk")
        marks.write_text(re.sub(r"(Mk1=New Segment,,1,1,0).*", r"\g<1>,19871129133741000000", marks.read_text()))


def sidecars(folder: Path, stem: str) -> None:
    fields = (
        "InstitutionName",
        "InstitutionAddress",
        "DeviceSerialNumber",
        "TaskDescription",
        "SubjectArtefactDescription",
    )
    said = dict.fromkeys(fields, f"{NAME} {SERIAL} 1987-11-29")
    (folder / f"{stem}_eeg.json").write_text(json.dumps({**said, "PowerLineFrequency": 50, "SamplingFrequency": 100}))
    rows = [f"{name}\tEEG\tuV\t{NAME}\t1961-07-23" for name in CHANNELS]
    (folder / f"{stem}_channels.tsv").write_text(
        "\n".join(["name\ttype\tunits\tdescription\tstatus_description", *rows])
    )


def write_archive(root: Path) -> None:
    """Write a recording of every format, each with its texts, and one that must be refused."""
    raw = planted()
    for i, extension in enumerate(FORMATS, 1):
        stem = f"sub-{i:02}_ses-19871129_task-rest"
        write(raw, root / f"sub-{i:02}/ses-19871129/eeg/{stem}_eeg.{extension}")
        sidecars(root / f"sub-{i:02}/ses-19871129/eeg", stem)
    write(raw, root / f"sub-06/eeg/sub-06_task-rest_run-{NAME}_19871129_eeg.edf")
    table = f"onset\tduration\ttrial_type\tvalue\tcomment\n1\t0\tleft\t1\t{NAME}\n2\t0\tright\t{NAME}\t1961-07-23\n"
    (root / "sub-01/ses-19871129/eeg/sub-01_ses-19871129_task-rest_events.tsv").write_text(table)
    broken = root / f"sub-07/eeg/{NAME} 1961-07-23_eeg.edf"
    broken.parent.mkdir(parents=True)
    header = bytearray((root / "sub-01/ses-19871129/eeg/sub-01_ses-19871129_task-rest_eeg.edf").read_bytes()[:3000])
    header[236:244] = NAME[:8].encode()  # a header that is out of step holds a name where numbers should be
    broken.write_bytes(bytes(header))
    (root / "participants.tsv").write_text(f"participant_id\tname\tborn\nsub-01\t{NAME}\t1961-07-23\n")
    (root / "sub-01/sub-01_scans.tsv").write_text(f"filename\tacq_time\toperator\nx\t1987-11-29T13:37:41\t{NAME}\n")
    (root / "dataset_description.json").write_text(
        json.dumps({"Name": "ds", "BIDSVersion": "1.9.0", "Authors": [NAME]})
    )
    texts = Planted(NAME, SERIAL, BORN, MEASURED)
    for subject, write_one in (
        ("08", lambda stem: write_gdf(stem.with_suffix(".gdf"), CHANNELS, texts)),
        ("09", lambda stem: write_mff(stem.with_suffix(".mff"), texts)),
        ("10", lambda stem: write_persyst(stem.with_suffix(".lay"), CHANNELS, texts)),
        ("11", lambda stem: write_nicolet(stem.with_suffix(".data"), CHANNELS, texts)),
        ("12", lambda stem: write_ctf(stem.with_suffix(".ds"), texts)),
    ):
        kind = "meg" if subject == "12" else "eeg"
        stem = root / f"sub-{subject}/{kind}/sub-{subject}_task-rest_{kind}"
        stem.parent.mkdir(parents=True)
        write_one(stem)


TEXTS = (".vhdr", ".vmrk", ".lay", ".head", ".xml", ".json", ".tsv", ".hc", ".mrk")
_NUMBER = re.compile(rb"(?<![A-Za-z0-9-])\d+(?:\.\d+)?")
"""Not of a channel's name or a label, which are kept as they are."""
_FIELD = re.compile(rb"(?<![A-Za-z0-9])[\d.+-]+ {1,7}(?=[\d.+ -])")


def write_damaged(source: Path, target: Path, copies: int, seed: int = 0) -> None:
    """Copy every recording of an archive some times, with a name or date where a number should be, or cut short."""
    numbers = iter(range(13, 100))
    for subject in sorted(path.name for path in source.glob("sub-*")):
        for _ in range(copies):
            renamed = f"sub-{next(numbers)}"
            files = []
            for path in sorted(path for path in (source / subject).rglob("*") if path.is_file()):
                place = target / str(path.relative_to(source)).replace(subject, renamed)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(path.read_bytes().replace(subject.encode(), renamed.encode()))
                files.append(place)
            _damage(files, np.random.default_rng([seed, int(renamed[4:])]))


def _damage(files: list[Path], rng: np.random.Generator) -> None:
    path = files[int(rng.integers(len(files)))]
    content = path.read_bytes()
    said = (NAME, "1961-07-23", f"{NAME} 23.07.61")[int(rng.integers(3))].encode()
    found = list(_NUMBER.finditer(content) if path.suffix in TEXTS else _FIELD.finditer(content[:4000]))
    if not found or rng.random() < 0.2:
        path.write_bytes(content[: int(rng.integers(len(content)))])
        return
    field = found[int(rng.integers(len(found)))]
    if path.suffix not in TEXTS:  # fields of fixed width
        said = said[: len(field[0])].ljust(len(field[0]))
    path.write_bytes(content[: field.start()] + said + content[field.end() :])


def outputs(store: Store, root: Path) -> dict[str, str]:
    """Everything that a store holds, as text, with its tables, tar members and Zarr attributes in the clear."""
    found = {str(path): path.read_bytes().decode("latin-1") for path in root.rglob("*") if path.is_file()}
    found |= {f"name of {path}": str(path.relative_to(root)) for path in root.rglob("*")}
    found["catalogue"] = str(catalog_table(store).to_pylist())
    found["quarantine"] = str([record.model_dump() for record in read_quarantine(store)])
    for row in read_catalog(store):
        found[f"events of {row.source}"] = str(read_events(store, row.recording))
        group = zarr.open_group(root / "recordings" / f"{row.recording}.zarr", mode="r")
        found[f"attributes of {row.source}"] = json.dumps(dict(group.attrs))
    for path in root.rglob("*.parquet"):
        import pyarrow.parquet as pq

        found[f"table {path}"] = str(pq.read_table(path).to_pylist())
        found[f"schema {path}"] = str(pq.read_schema(path).metadata)
    for path in root.rglob("*.tar"):
        with tarfile.open(path) as tar:
            found[f"headers of {path}"] = str([(member.name, member.uname, member.gname) for member in tar])
    return found


def assert_private(found: dict[str, str], forbidden: tuple[str, ...]) -> None:
    found_words = [(where, word) for where, text in found.items() for word in forbidden if word in text.lower()]
    assert not found_words, found_words
