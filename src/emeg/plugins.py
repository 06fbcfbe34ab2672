"""Tokenizers, encoders and objectives by name: those of emeg, and those that other packages register.

A package registers a `Plugin` as an entry point in the group ``emeg.tokenizers``, ``emeg.encoders`` or
``emeg.objectives``. The name of the entry point is the name in recipes, and the kind of the models that it makes.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from emeg.config import Config
from emeg.errors import UserError

Role = Literal["tokenizer", "encoder", "objective"]
GROUPS: dict[Role, str] = {
    "tokenizer": "emeg.tokenizers",
    "encoder": "emeg.encoders",
    "objective": "emeg.objectives",
}
"""Group of entry points of each role."""
ROLE_OF_KIND = {"braintokenizer": "tokenizer", "brainomni": "encoder", "finetuned": "finetuned"}
"""Roles of models whose ``config.json`` states none, because it is older than other tokenizers and encoders."""


@dataclass(frozen=True)
class Plugin:
    """A tokenizer, an encoder or an objective."""

    config: type[Config]
    """Class of its parameters."""
    network: type[Any] | str
    """Class that implements the protocol, or ``package.module:Class``, which is imported on first use."""
    presets: Mapping[str, Config] = field(default_factory=dict)
    """Parameters by name, which a recipe chooses by ``network``."""
    title: str = ""
    """Name for readers, such as BrainTokenizer."""
    objective: str = ""
    """For an encoder: the objective that it is trained with if a recipe names none."""

    def load(self) -> type[Any]:
        """Import the class that implements the protocol."""
        if not isinstance(self.network, str):
            return self.network
        module, _, name = self.network.partition(":")
        found: type[Any] = getattr(importlib.import_module(module), name)
        return found


def plugin_names(role: Role) -> list[str]:
    """Return the registered names of a role, sorted."""
    return sorted({entry.name for entry in entry_points(group=GROUPS[role])})


def find_plugin(role: Role, name: str) -> Plugin:
    """Return the plugin that is registered under a name.

    Raises
    ------
    UserError
        No package registers the name, several do, or its module cannot be imported.
    """
    entries = {entry.value: entry for entry in entry_points(group=GROUPS[role], name=name)}
    if not entries:
        known = ", ".join(plugin_names(role)) or "none is installed"
        raise UserError(
            f"{role} {name!r}: there is no such {role}; choose from {known}, or install the package that registers it"
        )
    if len(entries) > 1:
        packages = ", ".join(sorted(_package(entry) for entry in entries.values()))
        raise UserError(f"{role} {name!r}: several packages register it ({packages}); keep one of them")
    (entry,) = entries.values()
    try:
        found = entry.load()
    except Exception as error:  # foreign code may raise anything
        raise UserError(
            f"{role} {name!r}: package {_package(entry)} registers it as {entry.value}, which cannot be imported"
            f" ({type(error).__name__}: {error}); repair or uninstall that package"
        ) from error
    if not isinstance(found, Plugin):
        raise UserError(
            f"{role} {name!r}: package {_package(entry)} registers {entry.value}, which is a {type(found).__name__};"
            " register an emeg.plugins.Plugin"
        )
    return found


def load_network(role: Role, name: str) -> type[Any]:
    """Return the class that implements a tokenizer, an encoder or an objective.

    Raises
    ------
    UserError
        No package registers the name, or its module cannot be imported.
    """
    plugin = find_plugin(role, name)
    try:
        return plugin.load()
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"{role} {name!r}: {plugin.network} cannot be imported ({error}); repair or uninstall its package"
        ) from error


def role_of(card: Mapping[str, Any]) -> str:
    """Return the role of a model from its ``config.json``: tokenizer, encoder or finetuned; empty if unknown."""
    return str(card.get("role") or ROLE_OF_KIND.get(str(card.get("kind")), ""))


def name_kind(kind: str) -> str:
    """Return a kind or a role as messages name it: a role with a kind that has it, such as encoder ('brainomni', …)."""
    examples = [known for known, role in ROLE_OF_KIND.items() if role == kind != known]
    return f"{kind} ({examples[0]!r}, …)" if examples else repr(kind)


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "unknown"
