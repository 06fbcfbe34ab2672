"""Read weights of the reference release: names, configuration and rotary tables."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from emeg.errors import UserError
from emeg.models.config import BrainOmniConfig
from emeg.models.rotary import rotary_tables
from emeg.tokenizers.braintokenizer.config import BrainTokenizerConfig
from emeg.tokenizers.braintokenizer.pretrained import preview

RENAMED = (
    (".conv.conv.", ".conv."),
    (".convtr.convtr.", ".convtr."),
    (".weight_g", ".parametrizations.weight.original0"),
    (".weight_v", ".parametrizations.weight.original1"),
    (".rvq.layers.", ".layers."),
    ("._codebook.", "."),
)
"""Parts of the names of the release, and their replacements here."""
ROTARY_TABLE = ".rope_embedding_layer.rotate"
ROTARY_FREQUENCIES = ".rope_embedding_layer.freqs"
TABLE_TOLERANCE = 4e-3
"""Largest difference allowed between a stored rotary table and ours: the rounding of a cosine in bfloat16."""


class Reference(NamedTuple):
    """Checkpoint of the release under the names used here."""

    config: BrainOmniConfig
    tokenizer: BrainTokenizerConfig
    state: dict[str, Tensor]
    derived: tuple[str, ...]
    """Names of the release that are computed instead of loaded."""


def our_name(reference_name: str) -> str | None:
    """Translate the name of a parameter; None if it is computed instead of loaded."""
    if reference_name.endswith((ROTARY_TABLE, ROTARY_FREQUENCIES)):
        return None
    for theirs, ours in RENAMED:
        reference_name = reference_name.replace(theirs, ours)
    return reference_name


def reference_configs(config: Mapping[str, Any], *, rotary: str) -> tuple[BrainOmniConfig, BrainTokenizerConfig]:
    """Split the configuration of the release into those of BrainOmni and BrainTokenizer.

    Raises
    ------
    UserError
        A setting is missing, unknown or not supported.
    """
    known = set(BrainOmniConfig.model_fields) | set(BrainTokenizerConfig.model_fields)
    fields = dict(config)
    method = fields.pop("quantize_optimize_method", "ema")
    if method != "ema":
        raise UserError(
            f"quantize_optimize_method is {method!r}, but only 'ema' (codebooks as running means) is supported."
            " Use weights that were trained with 'ema'."
        )
    if unknown := sorted(set(fields) - known):
        raise UserError(
            f"the reference's configuration: unknown settings {preview(unknown)}."
            " Remove them, or update emeg to a version that knows them."
        )
    needed = {
        "n_dim",
        "n_filters",
        "n_neuro",
        "n_head",
        "codebook_size",
        "num_quantizers",
        "lm_dim",
        "lm_head",
        "lm_depth",
    }
    if missing := sorted(needed - set(fields)):
        raise UserError(
            f"the reference's configuration: missing settings {preview(missing)}. Add them as the release sets them."
        )
    ours: list[Any] = []
    for cls in (BrainOmniConfig, BrainTokenizerConfig):
        own = {name: value for name, value in fields.items() if name in cls.model_fields}
        if cls is BrainOmniConfig:
            own["rotary"] = rotary
        else:
            own["projections"] = "level"
        ours.append(cls.checked(own, source="the reference's configuration"))
    return ours[0], ours[1]


def read_reference(weights: Path, config: Mapping[str, Any]) -> Reference:
    """Read a checkpoint of the release.

    Raises
    ------
    UserError
        The file is not readable, is no state dict, or has other rotary tables than this model.
    """
    stored = _read_state(weights)
    tables = {name: value for name, value in stored.items() if name.endswith(ROTARY_TABLE)}
    rotary = rotary_mode(tables.values(), source=str(weights))
    model_config, tokenizer_config = reference_configs(config, rotary=rotary)
    for name, table in tables.items():
        _check_table(name, table, model_config.lm_dim // 2)
    state, derived = {}, []
    for name, value in stored.items():
        ours = our_name(name)
        if ours is None:
            derived.append(name)
        else:
            state[ours] = value.float() if value.is_floating_point() else value
    return Reference(model_config, tokenizer_config, state, tuple(derived))


def rotary_mode(tables: Iterable[Tensor], *, source: str) -> str:
    """Detect whether rotary tables are ``complex``, or lost their imaginary part (``cosine``).

    A cast to bfloat16 discards the imaginary part of a complex table; the weights were trained with the real part.

    Parameters
    ----------
    tables : iterable of complex64 or float32 tensors, shape (steps, width / 2)
        Stored tables, dimensionless.
    source : str
        File of the tables, for the message.
    """
    modes = {"complex" if table.is_complex() and bool(table.imag.any()) else "cosine" for table in tables}
    if len(modes) > 1:
        raise UserError(
            f"{source}: some rotary tables are complex and some are not, so the file is damaged. Copy it again."
        )
    return modes.pop() if modes else "complex"


def _check_table(name: str, table: Tensor, width: int) -> None:
    if table.ndim != 2 or table.shape[1] != width // 2:
        raise UserError(
            f"{name}: shape {tuple(table.shape)} instead of (steps, {width // 2}); give the config of these weights"
        )
    ours = rotary_tables(len(table), width, mode="complex")
    real = table.real if table.is_complex() else table
    difference = float((real.float() - ours.cos).abs().max())
    if table.is_complex() and bool(table.imag.any()) and ours.sin is not None:
        difference = max(difference, float((table.imag - ours.sin).abs().max()))
    if difference > TABLE_TOLERANCE:
        raise UserError(
            f"{name}: differs by {difference:.2g} from the rotary positions of this model;"
            " give the config of these weights"
        )


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; give the path of the weights")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(
            f"{path}: not readable as weights ({type(error).__name__}: {_first_line(error)}); download the file again"
        ) from error
    if not isinstance(stored, Mapping) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise UserError(f"{path}: expected a state dict, names and tensors only; save the model's state_dict() instead")
    return dict(stored)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
