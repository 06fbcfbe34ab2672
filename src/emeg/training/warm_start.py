"""Begin a training from the weights of another model: own or released, continued or transferred.

model folder ──names and shapes compared──▶ weights in the new network, differences in its lineage
"""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from emeg.errors import UserError
from emeg.hashing import hash_json, sha256_file
from emeg.models.hub import resolve
from emeg.plugins import role_of
from emeg.store import Store, find_model
from emeg.tokenizers.braintokenizer.pretrained import CARD, WEIGHTS, load_weights, preview, read_card
from emeg.training.configs import TrainingConfig
from emeg.training.dataset_use import FIELD

logger = logging.getLogger(__name__)

TOKENIZER_PREFIX = "tokenizer."


class Differences(NamedTuple):
    """Names on which a network and stored weights differ."""

    missing: tuple[str, ...]
    """Names of the network that the weights lack; they keep their initial values."""
    unknown: tuple[str, ...]
    """Names of the weights that the network lacks; they are not used."""
    reshaped: tuple[str, ...]
    """Names with another shape; they keep their initial values."""
    longer: tuple[str, ...] = ()
    """Tables with a row for each sensor type, of which the weights have fewer; the further rows keep their initial
    values."""

    def __str__(self) -> str:
        parts = zip(("missing", "unknown", "another shape", "further sensor types"), self, strict=True)
        return "; ".join(f"{what}: {preview(names)}" for what, names in parts if names)


def source_folder(store: Store, model: str) -> Path:
    """Return the folder of the model to begin from: a model of the store, a folder, or organisation/name on a hub.

    Raises
    ------
    UserError
        There is no such model.
    """
    if _is_in(store, model):
        return store.local_copy("models", model)
    folder = resolve(model)
    if not (folder / WEIGHTS).is_file():
        raise UserError(
            f"--from {model}: neither a model of {store.root} nor a folder with {WEIGHTS}. Give the name of a model, a"
            " folder, or organisation/name on a hub; convert released weights with import-reference first."
        )
    return folder


def adopt_model(store: Store, model: str) -> str:
    """Return the name of an encoder in the store; one from a folder or a hub is copied into it first.

    The copy is named after weights and sizes, so that the same model has one name whatever its source.

    Raises
    ------
    UserError
        There is no such model, or it is not an encoder.
    """
    if _is_in(store, model):
        return find_model(store, "encoder", model)
    folder = source_folder(store, model)
    card = read_card(folder, "encoder")
    sizes = {"config": card["config"], "tokenizer": card.get("tokenizer")}
    name = hash_json({"kind": card["kind"], "weights": sha256_file(folder / WEIGHTS), **sizes})
    if not store.has("models", name):
        with store.publishing("models", name) as copy:
            for file in (CARD, WEIGHTS):
                shutil.copyfile(folder / file, copy / file)
        logger.info("%s: copied into the store as model %s", folder, name)
    return name


def begin_from(
    network: nn.Module, config: TrainingConfig, store: Store, *, role: Literal["tokenizer", "encoder"]
) -> dict[str, Any]:
    """Load the weights that a training begins from, and return its lineage.

    A tokenizer may also begin from the tokenizer inside an encoder. An encoder does not take over a tokenizer: its own
    is the one that wrote the tokens.

    Parameters
    ----------
    network : nn.Module
        New network; its parameters change in place.
    config : TrainingConfig
        With `from_model` and `transfer`.
    store : Store
    role : str
        Role of the network.

    Returns
    -------
    dict
        JSON values for the provenance; empty if the training begins from initial weights.

    Raises
    ------
    UserError
        There is no such model, or names or shapes differ and `transfer` is off; all of them are listed. Tables that
        lack rows of further sensor types are no reason: those rows keep their initial values.
    """
    if config.from_model is None:
        return {}
    folder = source_folder(store, config.from_model)
    card = read_card(folder, *(("tokenizer", "encoder") if role == "tokenizer" else ("encoder",)))
    state = _of_role(load_weights(folder), role_of(card), role)
    expected = {name: value for name, value in network.state_dict().items() if _is_own(name, role)}
    found = compare(expected, state, by_sensor_type=getattr(network, "by_sensor_type", ()))
    if any(found[:3]) and not config.transfer:
        raise UserError(
            f"--from {config.from_model}: its weights differ from the network of this recipe ({found}). Choose the"
            " sizes of that model with --network or --overrides, or pass --transfer to load what agrees."
        )
    agreeing = {name: value for name, value in state.items() if name in expected and name not in found.reshaped}
    rows = {name: len(state[name]) for name in found.longer}
    for name, n_rows in rows.items():
        agreeing[name] = torch.cat([state[name].to(expected[name]), expected[name][n_rows:]])
    network.load_state_dict({name: value.to(expected[name]) for name, value in agreeing.items()}, strict=False)
    logger.info(
        "begin from %s: %d of %d names loaded; %s", folder, len(agreeing), len(expected), found or "no difference"
    )
    origin = card.get("provenance") or {}
    return {
        "weights_sha256": sha256_file(folder / WEIGHTS),
        "model": config.from_model if _is_in(store, config.from_model) else None,
        "kind": card["kind"],
        "corpus": origin.get("corpus"),
        "started_from": origin.get("started_from"),
        FIELD: origin.get(FIELD, []),
        "transfer": config.transfer,
        "n_loaded": len(agreeing),
        **{name: list(names) for name, names in found._asdict().items()},
        "longer": rows,
    }


def prepare_new(network: Any, lineage: Mapping[str, Any], prepare: Callable[[], None]) -> None:  # noqa: ANN401 - any
    """Fit what is estimated before the first step, unless the weights that a training begins from bring it.

    What the weights bring is not changed: whole tables, or the rows of the sensor types that they know.

    Parameters
    ----------
    network : TokenizerModule or EncoderModule
        Names in `fitted` what `prepare` sets.
    lineage : mapping
        Output of `begin_from`.
    prepare : callable
        Fits the network.
    """
    state, longer = network.state_dict(), lineage.get("longer", {})
    fitted = [name for name in network.fitted if name in state]
    absent = {*lineage["missing"], *lineage["reshaped"]} if lineage else set(fitted)
    known = {
        name: (state[name][: longer[name]] if name in longer else state[name]).clone()
        for name in fitted
        if name not in absent
    }
    if not lineage or len(known) < len(fitted) or any(name in longer for name in known):
        prepare()
    for name, value in known.items():
        fitted_anew = network.state_dict()[name]  # may have no dimension
        (fitted_anew[: len(value)] if name in longer else fitted_anew).copy_(value)


def compare(
    expected: Mapping[str, Tensor], state: Mapping[str, Tensor], *, by_sensor_type: Sequence[str] = ()
) -> Differences:
    """Compare names and shapes.

    Parameters
    ----------
    expected, state : mapping of tensors, any shape and dtype
        Weights of the network, and stored weights.
    by_sensor_type : sequence of str
        Tables with a row for each sensor type, which may have more rows than stored.
    """
    reshaped = [name for name in expected if name in state and state[name].shape != expected[name].shape]
    longer = [
        name
        for name in reshaped
        if name in by_sensor_type
        and state[name].shape[1:] == expected[name].shape[1:]
        and len(state[name]) < len(expected[name])
    ]
    return Differences(
        missing=tuple(name for name in expected if name not in state),
        unknown=tuple(name for name in state if name not in expected),
        reshaped=tuple(name for name in reshaped if name not in longer),
        longer=tuple(longer),
    )


def _is_in(store: Store, model: str) -> bool:
    return "/" not in model and not model.startswith(".") and store.has("models", model)


def _is_own(name: str, role: str) -> bool:
    return role == "tokenizer" or not name.startswith(TOKENIZER_PREFIX)


def _of_role(state: Mapping[str, Tensor], source_role: str, role: str) -> dict[str, Tensor]:
    if role == "encoder":
        return {name: value for name, value in state.items() if _is_own(name, role)}
    if source_role == "encoder":
        inside = {name: value for name, value in state.items() if name.startswith(TOKENIZER_PREFIX)}
        return {name.removeprefix(TOKENIZER_PREFIX): value for name, value in inside.items()}
    return dict(state)
