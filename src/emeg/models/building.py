"""Create encoders of any kind, load them, and give them initial weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emeg.models.encoder_module import DEFAULT_ENCODER, EncoderModule, encoder_parts
from emeg.models.readout.kinds import Pooling, pooling_of
from emeg.plugins import create, load_network, reading_model
from emeg.tokenizers.braintokenizer.pretrained import read_card
from emeg.tokenizers.interface import build_tokenizer


def build_encoder(card: Mapping[str, Any], *, source: str) -> EncoderModule:
    """Create an encoder and its tokenizer with initial weights.

    Parameters
    ----------
    card : mapping
        As in ``config.json``: ``config`` and ``tokenizer``, and ``kind`` and ``tokenizer_kind`` unless they are a
        BrainOmni and a BrainTokenizer.
    source : str
        Where the mapping comes from, for errors.

    Raises
    ------
    UserError
        No package registers the encoder or the tokenizer, or a configuration is refused.
    """
    kind = str(card.get("kind", DEFAULT_ENCODER))
    with reading_model(card, source=source):
        config, tokenizer = encoder_parts(card, kind, source=source)
    made: EncoderModule = create("encoder", kind, EncoderModule, config, tokenizer)
    return made


def load_encoder(folder: Path) -> EncoderModule:
    """Load an encoder of any kind, with its tokenizer, in evaluation mode.

    Raises
    ------
    UserError
        The folder holds no encoder, or the package of its kind is not installed.
    """
    card = read_card(folder, "encoder")
    with reading_model(card, source=folder):
        loaded: EncoderModule = load_network("encoder", str(card["kind"]), EncoderModule).from_pretrained(folder)
    return loaded


def default_pooling(folder: Path) -> Pooling:
    """Return the pooling over time that suits the encoder of a folder, without loading its weights.

    Raises
    ------
    UserError
        The folder holds no encoder, or the package of its kind is not installed.
    """
    card = read_card(folder, "encoder")
    with reading_model(card, source=folder):
        config, _ = encoder_parts(card, str(card["kind"]), source=f"{folder}/config.json")
    return pooling_of(config)


def with_random_weights(encoder: EncoderModule) -> EncoderModule:
    """Return an encoder and a tokenizer of the same sizes with initial weights, in evaluation mode."""
    tokenizer = build_tokenizer(encoder.tokenizer.kind, encoder.tokenizer.config, source="tokenizer")
    return type(encoder)(encoder.config, tokenizer).eval()
