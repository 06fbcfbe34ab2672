"""The verb ``datasets``: show the dataset registry."""

import yaml

from emeg.config import Config
from emeg.progress import Progress, silent
from emeg.registry.entry import Entry, Role
from emeg.registry.shelf import Registry


class DatasetsConfig(Config):
    """Show the registry of public datasets, or one entry."""

    name: str | None = None
    """Dataset to show in full."""
    role: Role | None = None
    """Show only datasets with this role: pretrain, task, unseen_device or extra."""


class DatasetsResult(Config):
    """Entries found."""

    entries: tuple[Entry, ...]
    """Entries, sorted by id."""
    whole: bool = False
    """Whether a single entry was requested."""
    pretrainable: tuple[str, ...] = ()
    """Datasets that may be used in pretraining."""

    def as_text(self) -> str:
        """Return one entry as YAML, or a table with one row per entry."""
        if self.whole:
            fields = self.entries[0].model_dump(mode="json", by_alias=True)
            return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=120).rstrip()
        header = ("id", "roles", "modality", "people", "licence", "access", "pretrain", "title")
        lines = [header, *(self._line(entry) for entry in self.entries)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]) - 1)]
        return "\n".join(
            "  ".join([*(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=False)), line[-1]])
            for line in lines
        )

    def _line(self, entry: Entry) -> tuple[str, ...]:
        return (
            entry.id,
            ",".join(entry.roles),
            "+".join(entry.modality),
            str(entry.subjects),
            entry.licence,
            entry.access_tier,
            "yes" if entry.id in self.pretrainable else "no",
            entry.title,
        )


def datasets(config: DatasetsConfig, *, progress: Progress = silent) -> DatasetsResult:
    """Show the dataset registry, or one entry of it.

    Raises
    ------
    UserError
        There is no such entry.
    """
    registry = Registry.load()
    if config.name is not None:
        chosen = [registry.get(config.name)]
    else:
        chosen = [entry for entry in registry if config.role is None or config.role in entry.roles]
    progress(len(chosen), len(registry), "entries read")
    allowed = tuple(e.id for e in chosen if not registry.never_pretrain(e.id) and not registry.unseen(e.id))
    return DatasetsResult(entries=tuple(chosen), whole=config.name is not None, pretrainable=allowed)
