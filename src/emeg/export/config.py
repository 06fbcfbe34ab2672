"""Configuration and result of an export."""

from emeg.config import Config, runtime_field


class ExportBidsConfig(Config):
    """Write recordings of a store as a BIDS derivative dataset."""

    root: str = runtime_field(..., group="data")
    """Store: a folder or any fsspec URI."""
    out: str = runtime_field(..., group="data")
    """Folder to create; it appears when the export is complete."""
    dataset: str | None = None
    """Export this dataset alone."""
    where: str = ""
    """Condition in SQL on the catalogue, such as "task = 'rest' and duration_s > 60". Empty: all recordings."""


class ExportBidsResult(Config):
    """Result of an export."""

    export: str
    """Name of the export: hash of its recordings and of emeg's version."""
    n_recordings: int
    """Recordings in it."""
    n_subjects: int
    """Subjects in it."""
    hours: float
    """Length of all recordings."""
    licences: tuple[str, ...]
    """Licences of the datasets that it comes from."""
    done_before: bool
    """Whether it existed before."""
    path: str
    """Its folder."""
