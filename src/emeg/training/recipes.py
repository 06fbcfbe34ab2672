"""Recipes: YAML files that are the only home of a training's values.

A configuration that a recipe completes (`FromRecipe`) takes each field from the caller, else from the recipe, else from
the field's own default. What results is complete: its `model_dump` means the same, whatever recipe it names.
"""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, get_args

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from emeg.config import Config, read_yaml, runtime_field
from emeg.errors import UserError

RecipeKind = Literal["tokenizer", "encoder", "finetune"]
"""Kinds of recipe: for `train-tokenizer`, for `pretrain`, for `finetune`."""
TELLING: dict[RecipeKind, str] = {
    "tokenizer": "sampling",
    "encoder": "batch_segments",
    "finetune": "fit",
}
"""Field that only recipes of a kind have."""
VERBS: dict[RecipeKind, str] = {"tokenizer": "train-tokenizer", "encoder": "pretrain", "finetune": "finetune"}
"""Verb that reads the recipes of a kind."""
ALTERNATIVES = (("steps", "epochs"),)
"""Fields of which exactly one counts: a value for one of them replaces the recipe's value for the other."""


def recipe_field(*, group: str = "training", runtime: bool = False, **constraints: Any) -> Any:  # noqa: ANN401
    """Declare a field whose value comes from the recipes; it has no default of its own."""
    extra: dict[str, Any] = {"in_recipe": True, "runtime": runtime, "group": group}
    return Field(default_factory=refuse_default, json_schema_extra=extra, **constraints)


def refuse_default() -> NoReturn:
    """Raise for a configuration field that no recipe and no caller sets.

    Raises
    ------
    ValueError
        Always: it is called only where a value is missing.
    """
    raise ValueError("the value is in no recipe: state it, or read a recipe that has it")


class FromRecipe(Config):
    """A configuration that a recipe completes."""

    recipe_kind: ClassVar[RecipeKind]
    """Kind of its recipes."""
    recipe: str = runtime_field(..., group="training")
    """Recipe with the values of all other fields: a name, or a .yaml file."""

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: object) -> object:
        return cls._completed(given) if isinstance(given, Mapping) else given

    @classmethod
    def _completed(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        name = given.get("recipe") or cls.model_fields["recipe"].default
        return {**merge_values(cls, read_recipe(cls, str(name)), given), "recipe": name}

    @model_validator(mode="after")
    def _check_alternatives(self) -> "FromRecipe":
        for names in ALTERNATIVES:
            if (
                type(self).model_fields.keys() >= set(names)
                and sum(getattr(self, name) is not None for name in names) != 1
            ):
                raise ValueError(f"{' and '.join(names)}: give exactly one of them")
        return self

    @classmethod
    def defaults_for(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the values of the recipe that `given` names, nested like the fields.

        Parameters
        ----------
        given : mapping
            What the caller has chosen so far, such as ``{"recipe": "brainomni-base"}``.

        Raises
        ------
        UserError
            There is no such recipe.
        """
        name = str(given.get("recipe") or cls.model_fields["recipe"].default)
        return {**read_recipe(cls, name), "recipe": name}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describe the fields for forms, without defaults: a form that filled them in would override the recipe."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        _drop_defaults(schema, handler)
        recipe = cls.model_fields["recipe"]
        if not recipe.is_required():
            schema["properties"]["recipe"]["default"] = recipe.default
        return schema


def _drop_defaults(schema: dict[str, Any], handler: GetJsonSchemaHandler) -> None:
    for name, described in schema.get("properties", {}).items():
        described.pop("default", None)
        if "$ref" in described:  # shared with classes whose defaults are their own
            inner = {**handler.resolve_ref_schema(described)}
            inner["properties"] = {key: {**value} for key, value in inner.get("properties", {}).items()}
            _drop_defaults(inner, handler)
            schema["properties"][name] = {**inner, **{k: v for k, v in described.items() if k != "$ref"}}


def read_recipe(config_class: type[FromRecipe], name: str) -> dict[str, Any]:
    """Read the values of a recipe.

    Parameters
    ----------
    config_class : type of FromRecipe
        Configuration that the recipe is for.
    name : str
        Name of a shipped recipe, or a file that ends in ``.yaml``. What such a file leaves out comes from the recipe
        that its ``extends`` names; without it, from the default recipe of `config_class`.

    Raises
    ------
    UserError
        There is no such recipe, it is for another configuration, it is not a mapping, or it extends itself.
    """
    *files, last = _chain(name, default=str(config_class.model_fields["recipe"].default))
    values = _read_shipped(config_class.recipe_kind, last, extended_by=files)
    for file in reversed(files):
        own = _load(Path(file))
        own.pop("extends", None)
        values = merge_values(config_class, values, own)
    return values


def _chain(name: str, *, default: str) -> list[str]:
    """Return a recipe and those that it extends, up to a shipped one; a file that names none extends `default`."""
    found = [name]
    while is_file(found[-1]):
        base = str(_load(Path(found[-1])).get("extends", default))
        if is_file(base) and Path(base).resolve() in {Path(one).resolve() for one in found}:
            raise UserError(
                f"recipe {name}: {found[-1]} extends {base}, which extends it in turn; name another after `extends`"
            )
        found.append(base)
    return found


def kind_of(name: str) -> RecipeKind:
    """Return the kind of a recipe: of a file, that of the recipe it extends, or what its fields tell.

    Raises
    ------
    UserError
        There is no such recipe, it is not a mapping, or it extends itself.
    """
    *files, last = _chain(name, default="")
    if not last:  # the last file extends nothing
        return _told_by(_load(Path(files[-1])))
    known = [recipe for kind in TELLING for recipe in shipped_recipes(kind)]
    if last not in known:
        raise _unknown(last, known, files)
    return _told_by(_load(_folder() / f"{last}.yaml"))


def _told_by(values: Mapping[str, Any]) -> RecipeKind:
    return next((kind for kind, field in TELLING.items() if field in values), "tokenizer")


def shipped_recipes(kind: RecipeKind) -> list[str]:
    """Return the names of the shipped recipes of a kind."""
    return sorted(path.stem for path in _folder().glob("*.yaml") if _told_by(_load(path)) == kind)


def _folder() -> Path:
    return Path(str(resources.files("emeg"))) / "recipes"


def is_file(name: str) -> bool:
    """Return whether a recipe's name is that of a file."""
    return name.endswith((".yaml", ".yml"))


def _read_shipped(kind: RecipeKind, name: str, *, extended_by: Sequence[str]) -> dict[str, Any]:
    file = _folder() / f"{name}.yaml"
    values = _load(file) if file.parent == _folder() and file.is_file() else {}
    if not values:
        raise _unknown(name, shipped_recipes(kind), extended_by)
    if (found := _told_by(values)) != kind:
        raise UserError(
            f"{_named(name, extended_by)}: it is a recipe of another verb; run `emeg {VERBS[found]}`, or choose from"
            f" {', '.join(shipped_recipes(kind))}"
        )
    return values


def _named(name: str, extended_by: Sequence[str]) -> str:
    """Return a recipe as messages name it, with the file that extends it."""
    return f"recipe {extended_by[-1]}, extends: {name!r}" if extended_by else f"recipe {name!r}"


def _unknown(name: str, known: list[str], extended_by: Sequence[str] = ()) -> UserError:
    return UserError(
        f"{_named(name, extended_by)}: there is no such recipe; choose from {', '.join(known)}, or give a .yaml file"
    )


def _load(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise UserError(f"recipe {file}: there is no such file; give the path of a .yaml file, or a recipe's name")
    return read_yaml(file.read_text(encoding="utf-8"), source=f"recipe {file}")


def merge_values(config_class: type[Config], below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge values: nested configurations field by field, everything else whole.

    Parameters
    ----------
    config_class : type of Config
        Configuration that the values are for.
    below, above : mapping
        Values by field name; those of `above` win. For `ALTERNATIVES`, None means that the field is not given.
    """
    above = dict(above)
    merged = dict(below)
    for names in _alternatives(config_class):
        for name in names:
            if above.get(name, ...) is None:
                del above[name]
        if any(name in above for name in names):
            merged.update(dict.fromkeys(names))
    for name, value in above.items():
        inner = _nested_class(config_class.model_fields.get(name))
        under = merged.get(name)
        both = isinstance(under, Mapping) and isinstance(value, Mapping)
        merged[name] = merge_values(inner, under, value) if inner is not None and both else value  # type: ignore[arg-type]
    return merged


def _alternatives(config_class: type[Config]) -> list[tuple[str, ...]]:
    return [names for names in ALTERNATIVES if config_class.model_fields.keys() >= set(names)]


def _nested_class(field: FieldInfo | None) -> type[Config] | None:
    if field is None:
        return None
    kinds = (field.annotation, *get_args(field.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Config)), None)
