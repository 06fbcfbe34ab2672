"""Tokenizers, encoders and objectives by name: those of emeg, and those that other packages register.

A package registers a `Plugin` as an entry point in the group ``emeg.tokenizers``, ``emeg.encoders`` or
``emeg.objectives``. The name of the entry point is the name in recipes, and the kind of the models that it makes.

An entry point is read when its name is used, never before. A package that cannot be imported therefore stops only the
commands that need it.
"""

import functools
import importlib
import logging
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

from emeg.config import Config
from emeg.errors import EmegError, UserError, machine_fault
from emeg.hashing import canonical_json

Role = Literal["tokenizer", "encoder", "objective"]
GROUPS: dict[Role, str] = {
    "tokenizer": "emeg.tokenizers",
    "encoder": "emeg.encoders",
    "objective": "emeg.objectives",
}
"""Group of entry points of each role."""
ROLE_OF_KIND = {"braintokenizer": "tokenizer", "brainomni": "encoder", "finetuned": "finetuned"}
"""Roles of models whose ``config.json`` states none, because it is older than other tokenizers and encoders."""
OWN_PACKAGE = "emeg"
"""Package whose names no other package can replace."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plugin:
    """A tokenizer, an encoder or an objective.

    Raises
    ------
    UserError
        A field has the wrong type; the message names the field.
    """

    config: type[Config]
    """Class of its parameters."""
    network: type[Any] | str
    """Class that implements the protocol, or ``package.module:Class``, which is imported on first use."""
    presets: Mapping[str, Config] = field(default_factory=dict)
    """Parameters by name, which a recipe chooses by ``network``; a tokenizer and an encoder need at least one."""
    title: str = ""
    """Name for readers, such as BrainTokenizer."""
    objective: str = ""
    """For an encoder: the objective that it is trained with if a recipe names none."""

    def __post_init__(self) -> None:
        if not (isinstance(self.config, type) and issubclass(self.config, Config)):
            raise UserError(f"Plugin: config is {self.config!r}; give a subclass of emeg.config.Config")
        is_path = isinstance(self.network, str) and re.fullmatch(r"[\w.]+:\w+", self.network)
        if not (is_path or isinstance(self.network, type)):
            raise UserError(f"Plugin: network is {self.network!r}; give a class, or a string 'package.module:Class'")
        for name, preset in self.presets.items():
            if not isinstance(preset, self.config):
                raise UserError(
                    f"Plugin: preset {name!r} is a {type(preset).__name__}; give a {self.config.__name__}, the class"
                    " that config names"
                )

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
    entry = _find_entry(role, name)
    try:
        found = entry.load()
    except (Exception, SystemExit) as error:  # foreign code may raise anything
        raise UserError(
            f"{role} {name!r}: package {_package(entry)} registers it as {entry.value}, which cannot be imported"
            f" ({type(error).__name__}: {_one_line(error)}); repair or uninstall that package"
        ) from error
    if not isinstance(found, Plugin):
        raise UserError(
            f"{role} {name!r}: package {_package(entry)} registers {entry.value}, which is a {type(found).__name__};"
            " register an emeg.plugins.Plugin"
        )
    return found


def load_network(role: Role, name: str, base: type[Any]) -> type[Any]:
    """Return the class that implements a tokenizer, an encoder or an objective.

    Parameters
    ----------
    role : str
    name : str
        Name of the entry point.
    base : type
        Class that it is derived from, such as `TokenizerModule`, or a protocol.

    Raises
    ------
    UserError
        No package registers the name, its module cannot be imported, or the class lacks a method of `base`.
    """
    plugin = find_plugin(role, name)
    whose = name_plugin(role, name)
    try:
        found = plugin.load()
    except (Exception, SystemExit) as error:  # foreign code may raise anything
        raise UserError(
            f"{whose}: {plugin.network} cannot be imported ({type(error).__name__}: {_one_line(error)}); repair or"
            " uninstall that package"
        ) from error
    path = f"{found.__module__}:{found.__qualname__}" if isinstance(found, type) else repr(found)
    if not isinstance(found, type) or not (_is_protocol(base) or issubclass(found, base)):
        raise UserError(f"{whose}: {path} is no subclass of {base.__name__}; make it one of {_path(base)}")
    if missing := [method for method in sorted(_abstract(base)) if _lacks(found, method)]:
        raise UserError(
            f"{whose}: {path} does not define {', '.join(missing)}; define what {_path(base)} documents under that name"
        )
    kind = getattr(found, "kind", name) if hasattr(base, "kind") else name
    if kind != name:
        raise UserError(
            f"{whose}: {path} has kind {kind!r}, and models are found by their kind; set kind = {name!r}, or give the"
            " entry point the name of its kind"
        )
    return found


def create(role: Role, name: str, base: type[Any], *arguments: object) -> Any:  # noqa: ANN401 - a `base`
    """Create the network of a tokenizer or encoder, or an objective.

    Parameters
    ----------
    role : str
    name : str
        Name of the entry point.
    base : type
        See `load_network`.
    *arguments : object
        Arguments of the class.

    Raises
    ------
    UserError
        The class is refused by `load_network`, refuses its arguments, or fails.
    """
    network = load_network(role, name, base)
    with blaming(role, name, "creating it"):
        return network(*arguments)


def check_settings(config: Config, *, who: str) -> None:
    """Raise an error if settings are not the same after they were written as JSON, the form in which models keep them.

    Parameters
    ----------
    config : Config
    who : str
        Beginning of the message.

    Raises
    ------
    UserError
        The message names the field at fault.
    """
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, set | frozenset):  # in JSON its order changes from process to process, and names with it
            raise UserError(f"{who}: setting {name} is a set, which has no order; make it a tuple")
        try:
            canonical_json(config.model_dump(mode="json", include={name}))
        except ValueError as error:
            raise UserError(
                f"{who}: setting {name} is {value!r}, which JSON cannot hold ({_one_line(error)}); use a finite number,"
                " a string, or a list of them"
            ) from error
    read = type(config).checked(config.model_dump(mode="json"), source=who)
    if changed := [name for name in type(config).model_fields if getattr(read, name) != getattr(config, name)]:
        raise UserError(
            f"{who}: settings {', '.join(changed)} have other values after they were written as JSON; use types that"
            " JSON can hold"
        )


@contextmanager
def blaming(role: Role, name: str, what: str) -> Iterator[None]:
    """Turn an error that the code of another package raises in the block into one that names the package and the line.

    Errors of emeg's own classes pass, and so do those of the machine, such as a full disk, and all of emeg's own code.

    Parameters
    ----------
    role : str
    name : str
        Name of the entry point.
    what : str
        What the block does, such as the method that it calls.

    Raises
    ------
    UserError
        The block raised another error, which is the cause.
    """
    try:
        yield
    except (EmegError, MemoryError):
        raise
    except Exception as error:  # foreign code may raise anything
        is_of_machine = isinstance(error, OSError) and machine_fault(error) is not None
        if is_of_machine or type(error).__name__ == "OutOfMemoryError" or package_of(role, name) is None:
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}, line {last.lineno}"
        raise UserError(
            f"{name_plugin(role, name)}: {what} failed with {type(error).__name__}: {_one_line(error)} ({where});"
            " correct it there, or choose another " + role
        ) from error


def default_objective(encoder: str) -> str:
    """Return the name of the objective that an encoder is trained with if a recipe names none.

    Raises
    ------
    UserError
        No package registers the encoder, or its plugin names no objective.
    """
    objective = find_plugin("encoder", encoder).objective
    if not objective:
        raise UserError(
            f"{name_plugin('encoder', encoder)}: its plugin names no objective; choose one by `objective` in the recipe"
            f" ({', '.join(plugin_names('objective'))})"
        )
    return objective


def name_plugin(role: Role, name: str) -> str:
    """Return a name with the package that registers it, as messages begin: tokenizer 'toy' of package toy 1.0."""
    package = package_of(role, name)
    return f"{role} {name!r}" if package is None else f"{role} {name!r} of package {package}"


def package_of(role: Role, name: str) -> str | None:
    """Return name and version of the other package that registers a name; None for those of emeg, or if none does."""
    try:
        entry = _find_entry(role, name)
    except UserError:
        return None
    if entry.dist is None or _package(entry) == OWN_PACKAGE:
        return None
    return f"{entry.dist.name} {entry.dist.version}"


def packages_of(names: Mapping[Role, str]) -> dict[str, str]:
    """Return name and version of the packages other than emeg that register the names, by role.

    Parameters
    ----------
    names : mapping
        Names of entry points by role.
    """
    found = {role: package_of(role, name) for role, name in names.items()}
    return {role: package for role, package in found.items() if package is not None}


@contextmanager
def reading_model(card: Mapping[str, Any], *, source: object) -> Iterator[None]:
    """Name the packages that wrote a model where reading it fails; log a warning if their versions differ.

    Parameters
    ----------
    card : mapping
        ``config.json`` of the model.
    source : object
        Where the model is, such as its folder, for the message.

    Raises
    ------
    UserError
        The block raised one, and a package that wrote the model is not installed in that version.
    """
    kinds = {"encoder": card.get("kind"), "tokenizer": card.get("tokenizer_kind") or card.get("kind")}
    others = []
    for role, package in dict(card.get("packages") or {}).items():
        installed = package_of(role, str(kinds.get(role)))
        if installed != package:
            others.append(f"package {package} (installed: {installed or 'none'})")
    difference = ", ".join(others)
    try:
        yield
    except UserError as error:
        if not others:
            raise
        raise UserError(
            f"{source}: written by {difference}. Install the version that wrote it, because {error}"
        ) from error
    if others:
        logger.warning("%s: written by %s; install the version that wrote it if results differ", source, difference)


def title_of(role: Role, name: str) -> str:
    """Return the title of a plugin for readers; its name if the package is not installed or cannot be imported."""
    try:
        return find_plugin(role, name).title or name
    except UserError as error:
        logger.debug("%s %r has no title: %s", role, name, error)
        return name


def title_of_model(card: Mapping[str, Any]) -> str:
    """Return the title of a model from its ``config.json``; its kind if its package is missing."""
    role, kind = role_of(card), str(card.get("kind") or "")
    return title_of(role, kind) if role in GROUPS else kind


def role_of(card: Mapping[str, Any]) -> str:
    """Return the role of a model from its ``config.json``: tokenizer, encoder or finetuned; empty if unknown."""
    return str(card.get("role") or ROLE_OF_KIND.get(str(card.get("kind")), ""))


def name_kind(kind: str) -> str:
    """Return a kind or a role as messages name it: a role with a kind that has it, such as encoder ('brainomni', …)."""
    examples = [known for known, role in ROLE_OF_KIND.items() if role == kind != known]
    return f"{kind} ({examples[0]!r}, …)" if examples else repr(kind)


def _find_entry(role: Role, name: str) -> EntryPoint:
    entries = {entry.value: entry for entry in entry_points(group=GROUPS[role], name=name)}
    if not entries:
        known = ", ".join(plugin_names(role)) or "none is installed"
        raise UserError(
            f"{role} {name!r}: there is no such {role}; choose from {known}, or install the package that registers it,"
            " again if its entry points have changed since"
        )
    own = [entry for entry in entries.values() if _package(entry) == OWN_PACKAGE]
    packages = ", ".join(sorted(_package(entry) for entry in entries.values() if entry not in own))
    if own and packages:
        _warn_of_reserved(role, name, packages)
        return own[0]
    if len(entries) > 1:
        raise UserError(f"{role} {name!r}: several packages register it ({packages}); keep one of them")
    (entry,) = entries.values()
    return entry


@functools.cache
def _warn_of_reserved(role: Role, name: str, packages: str) -> None:
    logger.warning(
        "%s %r: the one of emeg is used; package %s registers another under this name, which cannot be used. Rename the"
        " entry point of that package",
        role,
        name,
        packages,
    )


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "unknown"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _path(base: type[Any]) -> str:
    return f"{base.__module__}.{base.__qualname__}"


def _is_protocol(base: type[Any]) -> bool:
    return bool(getattr(base, "_is_protocol", False))


def _abstract(base: type[Any]) -> frozenset[str]:
    return frozenset(getattr(base, "__abstractmethods__", ()))


def _lacks(found: type[Any], method: str) -> bool:
    defined = getattr(found, method, None)
    return defined is None or bool(getattr(defined, "__isabstractmethod__", False))
