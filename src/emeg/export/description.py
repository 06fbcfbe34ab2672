"""Files about the dataset as a whole: description, licence, README."""

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
    """Collect facts about the datasets from catalogue, dataset records and registry."""
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
    """Return the content of ``dataset_description.json``."""
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
    """Return the licence where all datasets agree, else one for each dataset; ``n/a`` where none is known."""
    stated = {source.name: source.licence or "n/a" for source in sources}
    if len(set(stated.values())) == 1:
        return next(iter(stated.values()))
    return "; ".join(f"{name}: {text}" for name, text in stated.items())


def readme(sources: Sequence[SourceDataset], named: Sequence[NamedRecording]) -> str:
    """Return the text of ``README.md``."""
    people = len({one.subject for one in named})
    hours = sum(one.row.duration_s for one in named) / 3600.0
    listed = "\n".join(
        f"* {source.name}: licence {source.licence or 'not stated'}{f', {source.url}' if source.url else ''}"
        for source in sources
    )
    return _README.format(n=len(named), people=people, hours=hours, listed=listed, version=__version__)


_README = """# Standardised EEG and MEG

{n} recordings of {people} subjects, {hours:.2f} h, from:

{listed}

emeg {version} converted them to one sampling rate, pass band and set of units: it removed channels without a known
position and the mains frequency with its harmonics, limited the band, and resampled. `SoftwareFilters` in the JSON file
of each recording has the parameters. The licences of the sources still apply.

EEG is BrainVision with 32-bit floats in µV. MEG, with EEG that was recorded at the same time, is FIFF with 32-bit
floats in T, T/m and V. `channels.tsv` lists which channels are bad, which were interpolated, and why. `events.tsv` has
the events of the source, and rows `BAD_…` for bad stretches of channels that are good otherwise. `participants.tsv`,
`sessions.tsv` and `scans.tsv` have the columns of the source that do not identify a person.

Subjects have the pseudonyms of the store that they come from. If a subject withdraws from the store, remove the subject
from copies such as this one, too.
"""
