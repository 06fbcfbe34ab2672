"""The file ``emeg.yaml``: everything that a Prefect server runs for a lab, declared in one place.

stores, archives, trainings ──▶ deployments, queues, limits, automations, notifications on the server
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from emeg.config import Config
from emeg.errors import UserError

Verb = Literal["train-tokenizer", "pretrain"]
Alert = Literal["failed", "crashed", "late", "quarantine", "disk"]


class Schedule(Config):
    """When something runs."""

    cron: str
    """Cron expression of five fields, such as ``15 2 * * *`` for every night at 02:15."""
    timezone: str = "UTC"
    """Name of the time zone, such as ``Europe/Berlin``; daylight saving is taken into account."""
    active: bool = True
    """false: the schedule is deployed but paused."""

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"{value!r} is not a time zone; write a name such as Europe/Berlin or UTC")
        ZoneInfo(value)
        return value

    @field_validator("cron")
    @classmethod
    def _valid_cron(cls, value: str) -> str:
        from cronsim import CronSim, CronSimError

        try:
            CronSim(value, datetime.now(UTC))
        except CronSimError as error:
            raise ValueError(f"{value!r} is not a cron expression: {error}") from error
        return value


class Archive(Config):
    """An archive that is ingested into a store."""

    archive: str
    """Folder or URI of the recordings, as ``emeg ingest --archive`` takes it."""
    store: str
    """Name of the store, from `stores`."""
    schedule: Schedule | None = None
    """When it is ingested; if not set, only by hand."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further options of ``emeg ingest``, such as montage, mapping or workers."""


class TrainingPlan(Config):
    """A training that is started by hand, by a schedule or by a chain."""

    verb: Verb
    """train-tokenizer or pretrain."""
    store: str
    """Name of the store, from `stores`."""
    schedule: Schedule | None = None
    """When it starts; if not set, only by hand."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further options of the verb, such as recipe, steps or launcher."""


class Chains(Config):
    """Flows that start automatically when a product is published."""

    evaluate_models: bool = True
    """Evaluate every new encoder and write its report."""
    shard_after: NonNegativeInt = 0
    """Cut a new corpus and tokenize it when this many recordings are in no corpus yet; 0: never."""


class Queues(Config):
    """Limits of concurrent runs, by queue."""

    data: PositiveInt = 2
    """Runs of ingest, shard and tokenize."""
    training: PositiveInt = 1
    """Runs of train-tokenizer and pretrain: one for each pool of GPUs."""
    evaluation: PositiveInt = 1
    """Runs of finetune, evaluate and generate."""


class Limits(Config):
    """Limits of concurrent runs that use the same store or host."""

    store: PositiveInt = 4
    """Runs that write to one store."""
    archive_host: PositiveInt = 2
    """Ingests that read from one host or bucket."""


class Notification(Config):
    """An address for alerts."""

    url: str
    """Address: a webhook (https://…), Slack (https://hooks.slack.com/…) or mail (mailto://user:password@host).
    ``$NAME`` is replaced by that environment variable when it is deployed, so that the file contains no secret."""
    alerts: tuple[Alert, ...] = ("failed", "crashed", "late", "quarantine", "disk")
    """Which events are reported."""


class Maintenance(Config):
    """Regular work on every store."""

    verify: Schedule | None = None
    """When all products are checked for damage."""
    tidy: Schedule | None = None
    """When old work in progress, logs and replaced report pages are removed; products stay."""
    keep_days: PositiveInt = 30
    """Days for which `tidy` keeps everything."""
    keep_unfinished_days: PositiveInt = 180
    """Days for which `tidy` keeps the checkpoints of a training without a finished model."""


class ServiceConfig(Config):
    """Content of ``emeg.yaml``."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    """Short name of the installation; it marks the objects on the server that belong to this file."""
    work_pool: str = "emeg"
    """Work pool of type process whose workers run the flows."""
    stores: dict[str, str]
    """Name -> folder or fsspec URI. Relative folders are relative to this file."""
    archives: dict[str, Archive] = Field(default_factory=dict)
    """Name -> archive."""
    trainings: dict[str, TrainingPlan] = Field(default_factory=dict)
    """Name -> training."""
    chains: Chains = Chains()
    """Flows that start automatically."""
    queues: Queues = Queues()
    """Runs at the same time, by kind."""
    limits: Limits = Limits()
    """Runs at the same time, by store and by archive host."""
    quarantine_share: float = Field(0.2, ge=0.0, le=1.0)
    """Share of refused recordings of an ingest above which an alert is sent."""
    disk_free_gib: float = Field(20.0, ge=0.0)
    """Free space below which an alert is sent, GiB."""
    late_after_s: int = Field(600, ge=10)
    """Seconds after its time at which a run that has not started is reported."""
    maintenance: Maintenance = Maintenance()
    """Regular work on every store."""
    notifications: dict[str, Notification] = Field(default_factory=dict)
    """Name -> address for alerts."""

    @model_validator(mode="after")
    def _known_stores(self) -> Self:
        for kind, entries in (("archives", self.archives), ("trainings", self.trainings)):
            for name, entry in entries.items():
                if entry.store not in self.stores:
                    known = ", ".join(self.stores)
                    raise ValueError(f"{kind}.{name}.store: there is no store {entry.store!r}; stores are {known}")
        return self


def read_settings(file: Path) -> ServiceConfig:
    """Read ``emeg.yaml``; folders in it become absolute.

    Raises
    ------
    UserError
        There is no such file, or a value in it is refused.
    """
    if not file.is_file():
        raise UserError(f"{file}: there is no such file; write one, or name another with --file")
    settings = ServiceConfig.from_yaml(file.read_text(encoding="utf-8"), source=str(file))
    folder = file.absolute().parent
    return settings.model_copy(
        update={
            "stores": {name: absolute(root, folder) for name, root in settings.stores.items()},
            "archives": {
                name: entry.model_copy(update={"archive": absolute(entry.archive, folder)})
                for name, entry in settings.archives.items()
            },
        }
    )


def absolute(location: str, folder: Path) -> str:
    """Return a folder as an absolute path; URIs (with a scheme such as s3: or openneuro:) stay as they are."""
    is_uri = ":" in location.split("/", 1)[0]
    return location if is_uri else str((folder / location).resolve())
