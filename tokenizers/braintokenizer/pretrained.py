"""A model as a folder: config.json says what it is, model.safetensors holds the numbers. Loading is always strict."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from emeg.config import Config
from emeg.errors import UserError
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
    """Write a model's folder; equal models give equal bytes.

    Parameters
    ----------
    kind : str
        ``braintokenizer``, ``brainomni`` or ``finetuned``.
    tokenizer : Config, optional
        Configuration of the tokenizer inside.
    provenance, extra : mapping, optional
        Plain JSON values: where the model comes from; further entries of the card.
    """
    folder.mkdir(parents=True, exist_ok=True)
    card: dict[str, Any] = {"kind": kind, "version": __version__, "config": config.model_dump(mode="json")}
    if tokenizer is not None:
        card["tokenizer"] = tokenizer.model_dump(mode="json")
    card |= {"provenance": dict(provenance or {}), **(extra or {})}
    # A buffer may be shared or a view; the format wants every tensor by itself.
    save_file({name: value.detach().cpu().clone().contiguous() for name, value in state.items()}, folder / WEIGHTS)
    text = json.dumps(card, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / CARD).write_text(text + "\n", encoding="utf-8")


def read_card(folder: Path, *kinds: str) -> dict[str, Any]:
    """Read ``config.json`` of a model of one of these kinds.

    Raises
    ------
    UserError
        There is none, it is not readable, or the model is of another kind.
    """
    path = Path(folder) / CARD
    if not path.is_file():
        raise UserError(f"{folder}: no {CARD} there, so it is no model's folder")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON: {error}") from error
    kind = card.get("kind") if isinstance(card, dict) else None
    if kind not in kinds:
        raise UserError(f"{path}: kind is {kind!r}, expected {' or '.join(map(repr, kinds))}")
    missing = [name for name in ("config", "version") if name not in card]
    if missing:
        raise UserError(f"{path}: lacks {', '.join(missing)}")
    return dict(card)


def load_weights(folder: Path) -> dict[str, Tensor]:
    """Read ``model.safetensors``.

    Raises
    ------
    UserError
        It is missing or damaged.
    """
    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise UserError(f"{folder}: no {WEIGHTS} there")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path}: not readable as safetensors ({error}); copy or train the model again") from error


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Load a state in which every name is expected and every expected name is there, in its shape.

    Raises
    ------
    UserError
        Lists the names that are missing, unknown, or of another shape.
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
        faults.append(f"of another shape: {preview(other)}")
    if faults:
        raise UserError(f"{source}: the weights do not fit the configuration; {'; '.join(faults)}")
    module.load_state_dict(dict(state), strict=True)


def preview(names: Iterable[str], limit: int = 8) -> str:
    """List a few names and say how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
