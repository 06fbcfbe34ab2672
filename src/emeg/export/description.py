"""What the dataset as a whole says of itself: sources, licence, people."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from emeg.export.naming import NamedRecording
from emeg.registry import Entry, Registry
from emeg.store import CatalogRow, Store
from emeg.version import __version__

BIDS_VERSION = "1.11.1"

OPENNEURO = "https://openneuro.org/datasets/"


class SourceDataset(NamedTuple):
    """A dataset that recordings came from; empty fields are not known."""

    name: str
    licence: str
    version: str
    doi: str
    url: str

    @property
    def described(self) -> dict[str, str]:
        """Entry of ``SourceDatasets``."""
        doi = f"doi:{self.doi.removeprefix('doi:')}" if self.doi else ""
        fields = {"URL": self.url, "DOI": doi, "Version": self.version}
        return {key: value for key, value in fields.items() if value}


def source_datasets(store: Store, rows: Sequence[CatalogRow]) -> list[SourceDataset]:
    """Collect what catalogue, ingest's notes and registry know of the datasets."""
    licences = {row.dataset: row.licence for row in rows}
    return [_source(store, dataset, licence) for dataset, licence in sorted(licences.items())]


def _source(store: Store, dataset: str, licence: str) -> SourceDataset:
    parts = ("catalog", "datasets", f"{dataset}.json")
    noted: dict[str, Any] = store.location(*parts).read_json() if store.exists(*parts) else {}
    entry = Registry.load().find(str(noted.get("entry") or dataset))
    stated = licence or str(noted.get("licence", "")) or (entry.licence if entry is not None else "")
    url, doi = (_url(entry), entry.doi or "") if entry is not None else ("", "")
    return SourceDataset(dataset, stated, str(noted.get("snapshot", "")), doi, url)


def _url(entry: Entry) -> str:
    uri = entry.source.uri
    if uri.startswith("s3://openneuro.org/"):
        return OPENNEURO + uri.removeprefix("s3://openneuro.org/")
    return uri if uri.startswith(("https://", "http://")) else ""


def dataset_description(sources: Sequence[SourceDataset], export: str) -> dict[str, Any]:
    """Content of ``dataset_description.json``."""
    links = {source.name: source.url for source in sources if source.url}
    described = [source.described for source in sources if source.described]
    return {
        "Name": f"{', '.join(source.name for source in sources)}, standardised",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "License": licence(sources),
        "GeneratedBy": [
            {"Name": "emeg", "Version": __version__, "Description": f"emeg ingest, emeg export-bids (export {export})"}
        ],
        **({"SourceDatasets": described} if described else {}),
        **({"DatasetLinks": links} if links else {}),
    }


def licence(sources: Sequence[SourceDataset]) -> str:
    """One licence where all agree, else each dataset's; ``n/a`` where none is known."""
    stated = {source.name: source.licence or "n/a" for source in sources}
    if len(set(stated.values())) == 1:
        return next(iter(stated.values()))
    return "; ".join(f"{name}: {text}" for name, text in stated.items())


def participant_rows(named: Sequence[NamedRecording]) -> list[dict[str, Any]]:
    """List the people: label in this dataset, dataset, and label there."""
    people = {one.subject: (one.row.dataset, one.row.subject) for one in named}
    return [
        {"participant_id": f"sub-{label}", "dataset": dataset, "source_label": subject}
        for label, (dataset, subject) in sorted(people.items())
    ]


PARTICIPANT_COLUMNS = {
    "dataset": {"Description": "Dataset that the person is from."},
    "source_label": {"Description": "Pseudonym in the store that this was exported from."},
}


def readme(sources: Sequence[SourceDataset], named: Sequence[NamedRecording]) -> str:
    """Text of ``README.md``."""
    people = len({one.subject for one in named})
    hours = sum(one.row.duration_s for one in named) / 3600.0
    listed = "\n".join(
        f"* {source.name}: licence {source.licence or 'not stated'}{f', {source.url}' if source.url else ''}"
        for source in sources
    )
    return _README.format(n=len(named), people=people, hours=hours, listed=listed, version=__version__)


_README = """# Standardised EEG and MEG

{n} recordings of {people} people, {hours:.2f} h, from:

{listed}

emeg {version} brought them to one rate, band and set of units: channels whose place is unknown left out, mains and its
harmonics taken out, band limited, resampled to the rate in the sidecars. `SoftwareFilters` in each recording's JSON has
the figures. Licences of the sources go on to hold.

EEG is BrainVision with 32-bit floats in µV; MEG, with EEG that was recorded at the same time, is FIFF with 32-bit
floats in T, T/m and V. `channels.tsv` says which channels are bad and which were interpolated, and why.
`events.tsv` has the sources' events, and rows `BAD_…` for bad stretches of channels that are good otherwise.

People bear the pseudonyms of the store that they come from. A person who withdraws from the store must be taken out of
copies such as this one by whoever keeps them.
"""
