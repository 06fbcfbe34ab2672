"""Find a model by its role: tokenizers, encoders and fine-tuned models are in one folder."""

from typing import Any

from emeg.errors import UserError
from emeg.plugins import name_kind, role_of
from emeg.store.products import Store

_OPTIONS = {
    "tokenizer": ("`emeg train-tokenizer` or `emeg import-reference`", "--tokenizer"),
    "encoder": ("`emeg pretrain` or `emeg import-reference`", "--model"),
    "finetuned": ("`emeg finetune`", "--finetuned"),
}
"""Verbs that make models, and the option that names one, by role."""


def find_model(store: Store, role: str, name: str | None) -> str:
    """Resolve a model of one role (tokenizer, encoder, finetuned): `name`, or the only one.

    Raises
    ------
    UserError
        The model is missing or of another role, or none was named and there is not exactly one.
    """
    if name is not None:
        card = model_config(store, store.only("models", name))
        if role_of(card) != role:
            raise UserError(
                f"{store.root}: model {name} is a {card.get('kind')}; name a model of kind {name_kind(role)}"
            )
        return name
    names = models_of(store, role)
    if len(names) != 1:
        maker, option = _OPTIONS[role]
        listed = f"name one of {', '.join(names)} with {option}" if names else f"make one first with {maker}"
        raise UserError(f"{store.root}: models/ holds {len(names)} of kind {name_kind(role)}; {listed}")
    return names[0]


def models_of(store: Store, role: str) -> list[str]:
    """Return the names of the models of one role: tokenizer, encoder or finetuned."""
    return [name for name in store.names("models") if role_of(model_config(store, name)) == role]


def model_config(store: Store, name: str) -> dict[str, Any]:
    """Read ``config.json`` of a model."""
    config: dict[str, Any] = store.read_json("models", name, "config.json")
    return config


def n_parameters(store: Store, name: str) -> int:
    """Return the approximate number of parameters of a model: four bytes each in its file of weights."""
    weights = store.location("models", name, "model.safetensors")
    return int(weights.fs.size(weights.path)) // 4
