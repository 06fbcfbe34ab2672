"""The options of a verb as text: what ``emeg VERB --help`` prints and the reference pages list.

Everything comes from the configuration class: names, types, defaults, choices and descriptions of its fields, and the
group that a field declares (`emeg.config.option`). Nested configurations are one group each.
"""

import shutil
import textwrap
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from emeg.config import Config

GROUPS = ("data", "model", "training", "evaluation", "options", "machine", "cluster")
"""Order of the groups; those of nested configurations follow the group of their field."""

_TYPES = {str: "TEXT", int: "INT", float: "NUMBER", bool: "BOOL"}
_WIDEST_NAME = 34
"""Columns; a longer option has its description on the next line."""


@dataclass(frozen=True)
class Option:
    """One option of a verb."""

    name: str
    """Name on the command line without dashes: ``sampling.crop-s``."""
    group: str
    """Heading under which it is listed."""
    type: str
    """TEXT, INT, NUMBER, BOOL, CHOICE, JSON; several values end in dots."""
    choices: tuple[str, ...]
    """Values that are accepted; empty where any value of the type is."""
    default: str
    """Value without the option; empty where there is none."""
    description: str
    """Help text in one line."""
    required: bool
    """Whether the verb needs it."""
    needed_in_group: bool
    """Whether it must be given with any other option of its group."""
    is_switch: bool
    """Whether the option alone means yes."""
    may_be_null: bool
    """Whether ``null`` stands for no value."""

    @property
    def takes_several(self) -> bool:
        """Whether any number of values may follow the name."""
        return self.type.endswith("...")


def list_options(config_class: type[Config], given: Mapping[str, Any] | None = None) -> list[Option]:
    """Return the options of a configuration class, by group.

    Parameters
    ----------
    config_class : type of Config
        The verb's configuration.
    given : mapping, optional
        What the caller has chosen already; a recipe among it changes the defaults.

    Returns
    -------
    list of Option
        Groups in the order of `GROUPS`, then those of nested configurations; required options come first.
    """
    found = list(_walk(config_class, config_class.defaults_for(given or {}), "", ""))
    order = list(dict.fromkeys([*GROUPS, *(option.group for option in found)]))
    return sorted(
        found, key=lambda option: (order.index(option.group), not (option.required or option.needed_in_group))
    )


def _walk(
    config_class: type[Config], defaults: Mapping[str, Any] | Config, prefix: str, group: str, *, whole: bool = True
) -> Iterator[Option]:
    """Yield the options of a class; `whole` off: the class may be left out, and its required fields with it."""
    for name, field in config_class.model_fields.items():
        dotted = f"{prefix}{name.replace('_', '-')}"
        declared = _extra(field).get("group", config_class.option_group)
        default = _default(name, field, defaults)
        inner = _inner(field.annotation)
        if inner is None:
            yield _option(dotted, group or declared, field, default, whole=whole)
        else:
            given = default if isinstance(default, Mapping | Config) else {}
            yield from _walk(inner, given, f"{dotted}.", dotted, whole=whole and default is not None)


def nullable_names(config_class: type[Config], prefix: str = "") -> Iterator[str]:
    """Yield the names of the options that may be null, and of the nested configurations that may."""
    for name, field in config_class.model_fields.items():
        dotted = f"{prefix}{name.replace('_', '-')}"
        if type(None) in get_args(field.annotation):
            yield dotted
        inner = _inner(field.annotation)
        if inner is not None:
            yield from nullable_names(inner, f"{dotted}.")


def _option(name: str, group: str, field: FieldInfo, default: Any, *, whole: bool) -> Option:  # noqa: ANN401
    kind = _type_text(field.annotation)
    return Option(
        name=name,
        group=group,
        type=kind,
        choices=_choices(field.annotation),
        default="" if default is ... else _default_text(default),
        description=" ".join((field.description or "").split()),
        required=default is ... and whole,
        needed_in_group=default is ... and not whole,
        is_switch=kind == "BOOL",
        may_be_null=type(None) in get_args(field.annotation),
    )


def _extra(field: FieldInfo) -> Mapping[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def _default(name: str, field: FieldInfo, defaults: Mapping[str, Any] | Config) -> Any:  # noqa: ANN401
    """Return the default of a field; the ellipsis where it is required. Values of the surrounding default win."""
    if isinstance(defaults, Config):
        return getattr(defaults, name)
    has_none = field.is_required() or _extra(field).get("in_recipe")
    own = ... if has_none else field.get_default(call_default_factory=True)
    if name not in defaults:
        return own
    chosen = defaults[name]
    if isinstance(chosen, Mapping) and isinstance(own, Config):
        return {**own.model_dump(), **chosen}
    return chosen


def _inner(annotation: Any) -> type[Config] | None:  # noqa: ANN401 - any type expression
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and not get_args(kind) and issubclass(kind, Config):
            return kind
    return None


def _type_text(annotation: Any) -> str:  # noqa: ANN401 - any type expression
    """Return how the value is written on the command line."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_text(arguments[0])
    if origin is Literal:
        return "CHOICE"
    if origin in (Union, types.UnionType):
        texts = dict.fromkeys(_type_text(kind) for kind in arguments if kind is not type(None))
        return "|".join(texts)
    if origin in (tuple, list):
        if len(arguments) == 2 and arguments[1] is not ...:
            return " ".join(map(_type_text, arguments))
        return f"{_type_text(arguments[0])}..."
    return _TYPES.get(annotation, "JSON")


def _choices(annotation: Any) -> tuple[str, ...]:  # noqa: ANN401 - any type expression
    if get_origin(annotation) is Literal:
        return tuple(map(str, get_args(annotation)))
    return next(filter(None, map(_choices, get_args(annotation))), ())


def _default_text(value: Any) -> str:  # noqa: ANN401 - any default
    if value is None or value in ((), {}, "", []):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple | list):
        return " ".join(map(_default_text, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_default_text(entry)}" for key, entry in value.items())
    return str(value)


def _plain(description: str) -> str:
    """Return a description without the marks of code, which only the reference pages need."""
    return description.replace("``", "").replace("`", "")


def help_text(name: str, summary: str, options: Sequence[Option], *, width: int | None = None) -> str:
    """Write the page of ``emeg VERB --help``: one line an option, in groups, cut to the width of the terminal.

    Parameters
    ----------
    name : str
        The verb.
    summary : str
        What it does, in one sentence.
    options : sequence of Option
        From `list_options`.
    width : int, optional
        Columns; default: those of the terminal, 120 where there is none.
    """
    width = width or shutil.get_terminal_size((120, 24)).columns
    required = "".join(f" --{option.name} {option.type}" for option in options if option.required)
    lines = [summary, "", f"usage: emeg {name}{required} [options]", f"       emeg {name} --config FILE.yaml [options]"]
    for group in dict.fromkeys(option.group for option in options):
        lines += ["", f"{group}:", *_rows([option for option in options if option.group == group], width)]
    lines += [
        "",
        f"--config reads the same names from a YAML file; options on the command line win over it.\n"
        f"emeg {name} --help OPTION shows the whole text of an option.",
    ]
    return "\n".join(lines) + "\n"


def _rows(options: Sequence[Option], width: int) -> list[str]:
    heads = [f"  --{option.name} {option.type}" for option in options]
    column = min(max(map(len, heads)), _WIDEST_NAME)
    rows = []
    for head, option in zip(heads, options, strict=True):
        value = _facts(option)
        description = _plain(option.description)
        text = f"{description} [{value}]" if value else description
        room = max(width - max(column, len(head)) - 2, 20)
        rows.append(f"{head:<{column}}  {_cut(description, value, room) if len(text) > room else text}")
    return rows


def _facts(option: Option) -> str:
    facts = ["required"] if option.required else []
    facts += [f"required with any other of {option.group}"] if option.needed_in_group else []
    facts += [", ".join(option.choices)] if option.choices else []
    return "; ".join([*facts, *([f"default {option.default}"] if option.default else [])])


def _cut(description: str, value: str, room: int) -> str:
    """Cut a description to `room` columns; the default stays."""
    tail = f" [{value}]" if value else ""
    if len(tail) > room * 3 // 4:
        tail = f"{tail[: room * 3 // 4 - 2]}…]"
    return textwrap.shorten(description, max(room - len(tail), 1), placeholder=" …") + tail


def option_text(name: str, option: Option, *, width: int | None = None) -> str:
    """Write the whole text of one option, as ``emeg VERB --help OPTION`` prints it."""
    width = width or shutil.get_terminal_size((120, 24)).columns
    facts = [f"type: {option.type}", f"group: {option.group}"]
    facts += [f"choices: {', '.join(option.choices)}"] if option.choices else []
    facts += ["null: allowed, for no value"] if option.may_be_null else []
    facts.append("required" if option.required else f"default: {option.default or 'none'}")
    return "\n".join([f"emeg {name} --{option.name}", *textwrap.wrap(_plain(option.description), width), *facts]) + "\n"
