"""Lists to choose from in the forms of deployments: stores, recipes, and the products of a store."""

from collections.abc import Mapping, Sequence
from typing import Any

from emeg.errors import EmegError
from emeg.plugins import role_of
from emeg.service.settings import ServiceConfig
from emeg.store import Store, model_config
from emeg.training.recipes import RecipeKind, shipped_recipes

KIND_OF_RECIPE: dict[str, RecipeKind] = {
    "TrainTokenizerConfig": "tokenizer",
    "PretrainConfig": "encoder",
    "FinetuneConfig": "finetune",
}
"""Configuration class -> kind of its recipes."""

PRODUCT_OF = {"corpus": "corpora", "tokens": "tokens", "evaluation": "evaluations"}
"""Field -> kind of the products that it names."""

ROLE_OF = {"model": "encoder", "finetuned": "finetuned", "tokenizer": "tokenizer"}
"""Field -> role of the models that it names."""

FIRST = ("root", "archive", "recipe", "corpus", "tokens", "tokenizer", "model", "finetuned", "steps", "epochs", "seed")
"""Fields that a form shows first."""


def with_choices(schema: Mapping[str, Any], settings: ServiceConfig, root: str) -> dict[str, Any]:
    """Return the schema of a flow's parameters with lists to choose from.

    Stores and recipes must be from their list, or a recipe's file. A product may also be typed in, as new ones are made
    after the deployment.

    Parameters
    ----------
    schema : mapping
        JSON schema of the parameters.
    settings : ServiceConfig
        Its stores are offered.
    root : str
        Store whose products are offered.
    """
    products = list_products(root)
    definitions = {}
    for name, definition in schema.get("definitions", {}).items():
        properties = definition.get("properties", {})
        changed = {key: _field(name, key, value, settings, products) for key, value in properties.items()}
        order = [key for key in FIRST if key in changed] + [key for key in changed if key not in FIRST]
        definitions[name] = (
            {**definition, "properties": {key: changed[key] for key in order}} if changed else definition
        )
    return {**schema, "definitions": definitions}


def _field(
    owner: str, key: str, described: dict[str, Any], settings: ServiceConfig, products: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    if key == "root" and described.get("type") == "string":
        return {**described, "enum": list(settings.stores.values())}
    if key == "recipe" and owner in KIND_OF_RECIPE and described.get("type") == "string":
        plain = {name: value for name, value in described.items() if name != "type"}
        named = {"title": "Shipped recipe", "type": "string", "enum": shipped_recipes(KIND_OF_RECIPE[owner])}
        own = {"title": "File", "type": "string", "pattern": r"\.ya?ml$"}
        return {**plain, "anyOf": [named, own]}
    known = products.get(key)
    if known and "anyOf" in described:
        named = {"title": "From the store", "type": "string", "enum": list(known)}
        return {**described, "anyOf": [named, {"title": "Another name", "type": "string"}, {"type": "null"}]}
    return described


def list_products(root: str) -> dict[str, list[str]]:
    """Return the products of a store by the field that names them; nothing if there is no store yet."""
    try:
        store = Store.open(root)
        found = {field: store.names(kind) for field, kind in PRODUCT_OF.items()}
        roles = {name: role_of(model_config(store, name)) for name in store.names("models")}
    except EmegError:
        return {}
    for field, role in ROLE_OF.items():
        found[field] = sorted(name for name, of in roles.items() if of == role)
    return found
