"""Fields of a configuration class: dotted name, type with bounds, default, meaning."""

import enum
import types
import typing
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤", "min_length": "length ≥", "max_length": "length ≤"}

FROM_RECIPE = "from the recipe"


class FieldEntry(NamedTuple):
    """One field of a configuration."""

    path: str
    """Dotted name in a YAML file, such as ``standardise.l_freq``."""
    type: str
    """Type, choices and bounds, for people."""
    default: str
    """Default as it would be written in a YAML file; ``required`` where there is none."""
    meaning: str
    """The field's docstring."""
    changes_result: bool
    """Whether the value is part of a product's name."""

    @property
    def flag(self) -> str:
        """Flag of the command line."""
        return "--" + self.path.replace("_", "-")


def options_of(
    model: type[BaseModel], *, values: BaseModel | None = None, prefix: str = "", runtime: bool = False
) -> Iterator[FieldEntry]:
    """Yield the fields of a configuration class in order; nested configurations come as dotted names.

    Parameters
    ----------
    model : type of BaseModel
        The configuration class.
    values : BaseModel, optional
        Instance whose values replace the defaults of the class.
    prefix : str
        Dotted name of the configuration inside its parent.
    runtime : bool
        Whether the parent stays out of product names.
    """
    for name, field in model.model_fields.items():
        default = default_of(field) if values is None else getattr(values, name)
        extra = field.json_schema_extra
        is_runtime = runtime or (isinstance(extra, dict) and bool(extra.get("runtime")))
        inner = nested_model(field)
        if inner is not None:
            start = default if isinstance(default, BaseModel) else None
            yield from options_of(inner, values=start, prefix=f"{prefix}{name}.", runtime=is_runtime)
            continue
        yield FieldEntry(
            path=prefix + name,
            type=type_text(field),
            default=default_text(default),
            meaning=" ".join((field.description or "").split()),
            changes_result=not is_runtime,
        )


def default_of(field: FieldInfo) -> object:
    """Return the default of a field; the string `FROM_RECIPE` where its value is in the recipes only."""
    extra = field.json_schema_extra
    if isinstance(extra, dict) and extra.get("in_recipe"):
        return FROM_RECIPE
    return field.get_default(call_default_factory=True)


def nested_model(field: FieldInfo) -> type[BaseModel] | None:
    """Return the configuration class of a field, or None where the field is a plain value."""
    for kind in (field.annotation, *typing.get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            origin = typing.get_origin(field.annotation)
            return kind if origin in {None, types.UnionType, typing.Union} else None
    return None


def default_text(value: object) -> str:
    """Return a default in words: ``required``, ``none``, or the value."""
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "empty"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {entry}" for key, entry in value.items()) or "empty"
    return f'"{value}"' if value == "" else str(value)


def type_text(field: FieldInfo) -> str:
    """Return the type of a field for people, with choices and bounds."""
    bounds = [
        f"{sign} {getattr(part, name)}"
        for part in field.metadata
        for name, sign in BOUNDS.items()
        if getattr(part, name, None) is not None
    ]
    return ", ".join([annotation_text(field.annotation), *dict.fromkeys(bounds)])


def annotation_text(annotation: Any) -> str:  # noqa: ANN401 - any annotation
    """Return an annotation without module names; a Literal becomes its choices."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return annotation_text(arguments[0])
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in {types.UnionType, typing.Union}:
        return " or ".join(annotation_text(part) for part in arguments if part is not type(None))
    if origin is tuple and arguments[-1:] == (Ellipsis,):
        return f"list of {annotation_text(arguments[0])}"
    if origin is tuple:
        return " and ".join(annotation_text(part) for part in arguments)
    if origin in {dict, list, set, frozenset}:
        inner = [annotation_text(part) for part in arguments]
        return f"mapping of {inner[0]} to {inner[1]}" if origin is dict else f"list of {inner[0]}"
    return getattr(annotation, "__name__", str(annotation))
