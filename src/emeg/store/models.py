"""Find a model by its kind: tokenizers, backbones and fine-tuned models are in one folder."""

from typing import Any

from emeg.errors import UserError
from emeg.store.products import Store


def find_model(store: Store, kind: str, name: str | None) -> str:
    """Resolve a model of one kind (braintokenizer, brainomni, finetuned): `name`, or the only one.

    Raises
    ------
    UserError
        The model is missing or of another kind, or none was named and there is not exactly one.
    """
    if name is not None:
        found = model_config(store, store.only("models", name)).get("kind")
        if found != kind:
            raise UserError(f"{store.root}: model {name} is a {found}; name a {kind}")
        return name
    names = [name for name in store.names("models") if model_config(store, name).get("kind") == kind]
    if len(names) != 1:
        listed = f"name one of {', '.join(names)}" if names else "train or import one first"
        raise UserError(f"{store.root}: models/ holds {len(names)} of kind {kind}; {listed}")
    return names[0]


def model_config(store: Store, name: str) -> dict[str, Any]:
    """Read ``config.json`` of a model."""
    config: dict[str, Any] = store.read_json("models", name, "config.json")
    return config


def n_parameters(store: Store, name: str) -> int:
    """Return the approximate number of parameters of a model: four bytes each in its file of weights."""
    weights = store.location("models", name, "model.safetensors")
    return int(weights.fs.size(weights.path)) // 4
