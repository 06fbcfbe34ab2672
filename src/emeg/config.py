"""Base of every configuration: frozen, closed, documented, and hashable for product names."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emeg.errors import UserError
from emeg.hashing import hash_json
from emeg.notebook import html_table


def option(default: Any = ..., *, group: str, **constraints: Any) -> Any:  # noqa: ANN401 - mirrors pydantic.Field
    """Declare a field that ``emeg VERB --help`` lists under `group`, such as data, model, training or cluster."""
    return Field(default, json_schema_extra={"group": group}, **constraints)


def runtime_field(default: Any, *, group: str = "machine", **constraints: Any) -> Any:  # noqa: ANN401
    """Declare a field that cannot change a result (workers, device): it stays out of product names."""
    return Field(default, json_schema_extra={"runtime": True, "group": group}, **constraints)


class Config(BaseModel):
    """A frozen set of parameters. Unknown keys are refused; field docstrings are the help texts."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    option_group: ClassVar[str] = "options"
    """Group of ``emeg VERB --help`` for the fields that name none."""

    @classmethod
    def defaults_for(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return defaults, nested like the fields, that depend on what the caller gives, such as a recipe's values."""
        del given
        return {}

    def _repr_html_(self) -> str:
        """Return a table of the fields for a notebook."""
        return html_table((type(self).__name__, ""), ((name, getattr(self, name)) for name in type(self).model_fields))

    def product_fields(self) -> dict[str, Any]:
        """Return the fields that can change a result, as plain JSON values, nested configurations included."""
        return _product_fields(self)

    def product_hash(self) -> str:
        """Return the name of the product that these parameters alone would make."""
        return hash_json(self.product_fields())

    @classmethod
    def from_yaml(cls, text: str, *, source: str) -> Self:
        """Read from YAML; `source` names the text in errors.

        Raises
        ------
        UserError
            The text is not a mapping, or a field is unknown, missing or out of bounds.
        """
        return cls.checked(read_yaml(text, source=source), source=source)

    @classmethod
    def checked(cls, fields: dict[str, Any], *, source: str) -> Self:
        """Validate `fields`; a failure is one line for each field at fault."""
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            fields = dict.fromkeys(str(fault["loc"][0]) for fault in error.errors() if fault["loc"])
            correct = ", ".join(fields) or "these fields"
            raise UserError(f"{source}: {describe_faults(error)}; correct {correct}") from error


MOST_VALUES = 100_000
"""Most values in a YAML file, those counted again that an alias repeats."""


def read_yaml(text: str, *, source: str) -> dict[str, Any]:
    """Read a mapping from YAML; `source` names the text in errors. No code in it runs.

    Raises
    ------
    UserError
        The text is not YAML or not a mapping, or its aliases multiply to more than `MOST_VALUES` values.
    """
    try:
        _count_values(yaml.compose(text, Loader=yaml.SafeLoader), {}, source)
        fields = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{source}: not readable as YAML; correct it: {' '.join(str(error).split())}") from error
    if not isinstance(fields, dict | None):
        raise UserError(
            f"{source}: it holds a {type(fields).__name__}, not options; write one on each line, such as `root: store`"
        )
    return fields or {}


def _count_values(node: yaml.Node | None, known: dict[int, int], source: str) -> int:
    """Return the number of values below a node, with each alias written out."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = MOST_VALUES + 1  # what an alias to itself finds: endless
        children = [part for entry in node.value for part in (entry if isinstance(entry, tuple) else (entry,))]
        known[id(node)] = 1 + sum(_count_values(child, known, source) for child in children)
    if known[id(node)] > MOST_VALUES:
        raise UserError(f"{source}: has more than {MOST_VALUES:,} values; write fewer, or remove its aliases (*name)")
    return known[id(node)]


def describe_faults(error: ValidationError) -> str:
    """Return one line that names the refused fields and the reasons."""
    faults = []
    for fault in error.errors():
        reason = fault["msg"].removeprefix("Value error, ")
        faults.append(f"{'.'.join(map(str, fault['loc']))}: {reason}" if fault["loc"] else reason)
    return "; ".join(faults)


def _product_fields(config: BaseModel) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, info in type(config).model_fields.items():
        extra = info.json_schema_extra
        if isinstance(extra, dict) and extra.get("runtime"):
            continue
        value = getattr(config, name)
        plain = (
            value.product_fields()
            if isinstance(value, Config)
            else _product_fields(value)
            if isinstance(value, BaseModel)
            else config.model_dump(mode="json", include={name})[name]
        )
        fields[name] = plain
    return fields
