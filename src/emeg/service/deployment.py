"""The verb ``deploy``: compare ``emeg.yaml`` with the server, show the plan, and apply it on request."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from emeg.config import Config, option
from emeg.errors import UserError
from emeg.ingest import IngestConfig
from emeg.progress import Progress, silent
from emeg.service import server
from emeg.service.api import Api
from emeg.service.settings import ServiceConfig, read_settings
from emeg.service.wanted import Resource, wanted
from emeg.training import PretrainConfig, TrainTokenizerConfig

Action = Literal["create", "update", "remove"]
SIGNS: dict[Action, str] = {"create": "+", "update": "~", "remove": "-"}


class DeployConfig(Config):
    """Update a Prefect server to match ``emeg.yaml``."""

    file: str = option("emeg.yaml", group="data")
    """File that declares stores, archives, trainings, schedules and notifications."""
    apply: bool = option(False, group="options")
    """Apply the plan; without it the plan is only shown."""


class DeployResult(Config):
    """Differences between the file and the server."""

    url: str
    """Address of the server."""
    changes: tuple[str, ...]
    """One line for each object that is created, updated or removed."""
    n_same: int
    """Number of objects that are as the file declares."""
    applied: bool
    """Whether the changes were made."""

    def as_text(self) -> str:
        """Return the plan as text."""
        counts = {action: sum(line.startswith(sign) for line in self.changes) for action, sign in SIGNS.items()}
        total = ", ".join(f"{n} to {action}" for action, n in counts.items())
        lines = [f"server: {self.url}", *self.changes, f"plan: {total}, {self.n_same} unchanged"]
        if not self.changes:
            lines[-1] = f"no changes: the server matches the file ({self.n_same} objects)"
        elif self.applied:
            lines.append("applied")
        else:
            lines.append("nothing was changed; add --apply to make these changes")
        return "\n".join(lines)


@dataclass(frozen=True)
class Change:
    """One step of the plan."""

    action: Action
    kind: str
    name: str
    resource: Resource | None
    details: str = ""

    def __str__(self) -> str:
        text = f"{SIGNS[self.action]} {self.kind} {self.name}"
        return f"{text}: {self.details}" if self.details else text


def deploy(config: DeployConfig, *, progress: Progress = silent) -> DeployResult:
    """Compare the file with the server and, with ``apply``, make the server follow the file.

    Raises
    ------
    UserError
        The file is not valid, or no server is configured.
    TransientError
        The server does not answer.
    """
    settings = with_secrets(read_settings(Path(config.file)))
    check_options(settings)
    with Api() as api:
        resources = wanted(settings)
        known = server.read_server(api, settings)
        changes = make_plan(resources, known)
        if config.apply:
            for done, change in enumerate(changes):
                progress(done, len(changes), str(change))
                _apply(api, settings, change, known)
        n_same = len(resources) - sum(change.action != "remove" for change in changes)
        return DeployResult(
            url=api.url, changes=tuple(map(str, changes)), n_same=n_same, applied=config.apply and bool(changes)
        )


def check_options(settings: ServiceConfig) -> None:
    """Check the options of every archive and training as their verbs would.

    Raises
    ------
    UserError
        An option is unknown or refused; the message names the entry and the option.
    """
    for name, archive in settings.archives.items():
        fields = {"archive": archive.archive, "root": settings.stores[archive.store], **archive.options}
        IngestConfig.checked(fields, source=f"archives.{name}.options")
    for name, training in settings.trainings.items():
        kind = PretrainConfig if training.verb == "pretrain" else TrainTokenizerConfig
        kind.checked({"root": settings.stores[training.store], **training.options}, source=f"trainings.{name}.options")


def with_secrets(settings: ServiceConfig) -> ServiceConfig:
    """Replace ``$NAME`` in the addresses of notifications by the environment variable of that name.

    Raises
    ------
    UserError
        The variable is not set.
    """

    def look_up(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise UserError(f"notifications: the environment variable {match[1]} is not set; export it, then deploy")
        return os.environ[match[1]]

    told = {
        name: entry.model_copy(update={"url": re.sub(r"\$(\w+)", look_up, entry.url)})
        for name, entry in settings.notifications.items()
    }
    return settings.model_copy(update={"notifications": told})


def make_plan(resources: list[Resource], known: server.Known) -> list[Change]:
    """Return the changes in the order in which they can be made: referred objects first, removals last."""
    changes = []
    for resource in resources:
        key = (resource.kind, resource.name)
        there = known.resources.get(key)
        asked = server.comparable(resource, known.ids)
        if there is None:
            changes.append(Change("create", *key, resource))
        elif differing := [name for name, value in asked.items() if there.get(name) != value]:
            changes.append(Change("update", *key, resource, _details(resource, there, asked, differing)))
    named = {(resource.kind, resource.name) for resource in resources}
    gone = [key for key in known.resources if key in known.owned and key not in named]
    return changes + [Change("remove", *key, None) for key in reversed(gone)]


def _details(resource: Resource, there: Mapping[str, Any], asked: Mapping[str, Any], differing: list[str]) -> str:
    """Name what differs; values only where they are short and no secret."""
    if resource.kind in {"automation", "notification block"}:
        return "differs from the file"
    shown = []
    for name in differing:
        before, after = str(there.get(name)), str(asked[name])
        shown.append(f"{name} {before} → {after}" if len(before) + len(after) <= 160 else name)
    return ", ".join(shown)


def _apply(api: Api, settings: ServiceConfig, change: Change, known: server.Known) -> None:
    if change.resource is None:
        server.remove(api, change.kind, change.name, known.ids[change.kind, change.name])
    elif change.action == "create":
        server.create(api, settings, change.resource, known.ids)
    else:
        server.update(api, settings, change.resource, known.ids)
