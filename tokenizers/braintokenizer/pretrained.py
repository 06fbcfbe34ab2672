"""Write and read a model folder: config.json describes the model, model.safetensors holds its weights."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from emeg.config import Config
from emeg.errors import UserError
from emeg.plugins import name_kind, role_of
from emeg.version import __version__

CARD = "config.json"
WEIGHTS = "model.safetensors"


def save_model(
    folder: Path,
    state: Mapping[str, Tensor],
    *,
    kind: str,
    config: Config,
    tokenizer: Config | None = None,
    provenance: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a model folder. Equal models give equal bytes.

    Parameters
    ----------
    folder : Path
        Created if it does not exist.
    state : mapping of tensors, any shape and dtype
        State dict of the model: its weights.
    kind : str
        Name of the tokenizer or encoder, such as ``braintokenizer``, or ``finetuned``.
    tokenizer : Config, optional
        Configuration of the tokenizer that the model contains.
    provenance, extra : mapping, optional
        JSON values: the origin of the model; further entries of config.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    card: dict[str, Any] = {"kind": kind, "version": __version__, "config": config.model_dump(mode="json")}
    if tokenizer is not None:
        card["tokenizer"] = tokenizer.model_dump(mode="json")
    card |= {"provenance": dict(provenance or {}), **(extra or {})}
    # A buffer may be shared or a view, which the format does not allow.
    save_file({name: value.detach().cpu().clone().contiguous() for name, value in state.items()}, folder / WEIGHTS)
    text = json.dumps(card, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / CARD).write_text(text + "\n", encoding="utf-8")


def read_card(folder: Path, *kinds: str) -> dict[str, Any]:
    """Read ``config.json`` of a model folder and check its kind.

    Parameters
    ----------
    folder : Path
    *kinds : str
        Kinds to accept, such as ``brainomni``, or roles: ``tokenizer``, ``encoder``, ``finetuned``.

    Raises
    ------
    UserError
        The file is missing or not readable, or the model is of another kind.
    """
    path = Path(folder) / CARD
    if not path.is_file():
        raise UserError(f"{folder}: no model folder, because it has no {CARD}. Give the folder of a model.")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON ({error}); copy the model again") from error
    kind = card.get("kind") if isinstance(card, dict) else None
    if kind not in kinds and not (isinstance(card, dict) and role_of(card) in kinds):
        raise UserError(f"{path}: kind is {kind!r}; give a model of kind {' or '.join(map(name_kind, kinds))}")
    missing = [name for name in ("config", "version") if name not in card]
    if missing:
        raise UserError(f"{path}: {', '.join(missing)} missing. Save the model again.")
    return dict(card)


def load_weights(folder: Path) -> dict[str, Tensor]:
    """Read the weights in ``model.safetensors``.

    Raises
    ------
    UserError
        The file is missing or damaged.
    """
    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise UserError(f"{folder}: {WEIGHTS} is missing. Copy or train the model again.")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path}: not readable as safetensors ({error}). Copy or train the model again.") from error


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Load a state dict whose names and shapes are exactly those of the module.

    Parameters
    ----------
    module : nn.Module
    state : mapping of tensors, any shape and dtype
        State dict: the weights.
    source : str
        Where the state dict comes from, for the message.

    Raises
    ------
    UserError
        Lists names that are missing, unknown, or have another shape.
    """
    expected = module.state_dict()
    faults = []
    if missing := [name for name in expected if name not in state]:
        faults.append(f"missing: {preview(missing)}")
    if unknown := [name for name in state if name not in expected]:
        faults.append(f"unknown: {preview(unknown)}")
    other = [
        f"{name} {tuple(state[name].shape)} for {tuple(value.shape)}"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    if other:
        faults.append(f"another shape: {preview(other)}")
    if faults:
        raise UserError(
            f"{source}: the weights do not match the configuration ({'; '.join(faults)}); use both of one model"
        )
    module.load_state_dict(dict(state), strict=True)


def preview(names: Iterable[str], limit: int = 8) -> str:
    """Join the first names and the number of those omitted."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
