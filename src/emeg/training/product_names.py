"""Names of models: a hash of everything that can change them. Loads no network library."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from emeg.config import Config
from emeg.errors import UserError
from emeg.hashing import hash_json, sha256_file
from emeg.store import Store
from emeg.tokenizers.braintokenizer import PRESETS as TOKENIZER_PRESETS
from emeg.tokenizers.braintokenizer import BrainTokenizerConfig
from emeg.training.configs import PretrainConfig, TrainingConfig, TrainResult, TrainTokenizerConfig
from emeg.version import __version__

if TYPE_CHECKING:
    from emeg.models import BrainOmniConfig


def tokenizer_network(config: TrainTokenizerConfig) -> BrainTokenizerConfig:
    """Return the sizes of the tokenizer: those of the preset, with the caller's overrides."""
    return BrainTokenizerConfig.checked(_sizes(config, TOKENIZER_PRESETS), source="overrides")


def brainomni_network(config: PretrainConfig) -> "BrainOmniConfig":
    """Return the sizes of BrainOmni: those of the preset, with the caller's overrides."""
    from emeg.models import PRESETS, BrainOmniConfig

    return BrainOmniConfig.checked(_sizes(config, PRESETS), source="overrides")


def _sizes(config: TrainingConfig, presets: Mapping[str, Config]) -> dict[str, object]:
    if config.network not in presets:
        raise UserError(f"network={config.network!r}: there is no such preset; choose from {', '.join(presets)}")
    return {**presets[config.network].model_dump(), **config.overrides}


def tokenizer_name(config: TrainTokenizerConfig) -> str:
    """Return the name of the tokenizer that `config`, its corpus resolved, trains."""
    return _name("braintokenizer", config, tokenizer_network(config))


def brainomni_name(config: PretrainConfig) -> str:
    """Return the name of the BrainOmni that `config`, its tokens resolved, trains."""
    return _name("brainomni", config, brainomni_network(config))


UNUSED_STEPS = {"braintokenizer": 1500, "brainomni": 300}
"""Number of steps in the name of a model that is trained by epochs. Names have always contained one, and products that
exist must be found."""
UNUSED_LEARNING_RATE = 3e-4
"""The quantizer's learning rate in the name of a BrainOmni, which trains none; in names for the same reason."""


def _name(kind: str, config: TrainingConfig, network: Config) -> str:
    replaced = {"network", "overrides", "from_model", "transfer"}
    fields = {key: value for key, value in config.product_fields().items() if key not in replaced}
    if config.from_model is not None:
        from emeg.training.warm_start import source_folder

        weights = source_folder(Store.open(config.root), config.from_model) / "model.safetensors"
        fields["from"] = {"weights": sha256_file(weights), "transfer": config.transfer}
    fields["steps"] = fields["steps"] or UNUSED_STEPS[kind]
    fields["optimiser"] = {"quantizer_learning_rate": UNUSED_LEARNING_RATE, **fields["optimiser"]}
    return hash_json({"kind": kind, "version": __version__, "network": network.product_fields(), "config": fields})


def finished(store: Store, name: str) -> TrainResult:
    """Return the result of a model that exists."""
    provenance = store.location("models", name, "config.json").read_json()["provenance"]
    return TrainResult(
        model=name,
        run=name,
        steps=int(provenance["steps"]),
        seconds=0.0,
        metrics=dict(provenance["metrics"]),
        done_before=True,
    )
