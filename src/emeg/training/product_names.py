"""Names of models: a hash of everything that can change them. Loads no network library."""

from collections.abc import Mapping
from typing import TypeVar

from emeg.config import Config
from emeg.data import Corpus
from emeg.errors import UserError
from emeg.hashing import hash_json, sha256_file
from emeg.plugins import Role, check_settings, default_objective, find_plugin, name_plugin, packages_of
from emeg.store import Store
from emeg.training.configs import PretrainConfig, TrainingConfig, TrainResult, TrainTokenizerConfig
from emeg.version import __version__

C = TypeVar("C", bound=TrainingConfig)


def tokenizer_network(config: TrainTokenizerConfig) -> Config:
    """Return the sizes of the tokenizer: those of the preset, with the caller's overrides."""
    return _network("tokenizer", config.tokenizer, config)


def encoder_network(config: PretrainConfig) -> Config:
    """Return the sizes of the encoder: those of the preset, with the caller's overrides."""
    return _network("encoder", config.encoder, config)


def _network(role: Role, name: str, config: TrainingConfig) -> Config:
    plugin = find_plugin(role, name)
    if config.network not in plugin.presets:
        known = ", ".join(plugin.presets) or "those that its package adds to presets of its Plugin, which has none"
        raise UserError(f"network={config.network!r}: {role} {name} has no such preset; choose from {known}")
    sizes = {**plugin.presets[config.network].model_dump(), **config.overrides}
    network = plugin.config.checked(sizes, source=f"overrides of {role} {name}, preset {config.network}")
    check_settings(network, who=name_plugin(role, name))
    return network


def with_sensor_kinds(store: Store, config: C) -> C:
    """Return the configuration with the sensor kinds of the corpus: intracranial ones need a larger tokenizer.

    Parameters
    ----------
    store : Store
    config : TrainTokenizerConfig or PretrainConfig
        One of an encoder is not changed.
    """
    if not isinstance(config, TrainTokenizerConfig) or "intracranial" in config.overrides:
        return config
    if "intracranial" not in find_plugin("tokenizer", config.tokenizer).config.model_fields:
        return config
    if not Corpus.open(store, config.corpus).has_intracranial:
        return config
    return config.model_copy(update={"overrides": {**config.overrides, "intracranial": True}})


def tokenizer_name(config: TrainTokenizerConfig) -> str:
    """Return the name of the tokenizer that `config`, its corpus resolved, trains."""
    return _name(config.tokenizer, config, tokenizer_network(config), packages_of({"tokenizer": config.tokenizer}))


def encoder_name(config: PretrainConfig) -> str:
    """Return the name of the encoder that `config`, its tokens resolved, trains.

    Raises
    ------
    UserError
        There is no such encoder or objective, or the settings of one of them are refused.
    """
    objective = config.objective or default_objective(config.encoder)
    options = find_plugin("objective", objective).config.checked(
        dict(config.objective_options), source=f"objective_options of {objective}"
    )
    check_settings(options, who=name_plugin("objective", objective))
    packages = packages_of({"encoder": config.encoder, "objective": objective})
    if config.objective == find_plugin("encoder", config.encoder).objective:
        config = config.model_copy(update={"objective": None})  # stating the default changes nothing
    return _name(config.encoder, config, encoder_network(config), packages)


UNUSED_STEPS = {"braintokenizer": 1500, "brainomni": 300}
"""Number of steps in the name of a model that is trained by epochs. Names have always contained one, and products that
exist must be found."""
UNUSED_LEARNING_RATE = 3e-4
"""The quantizer's learning rate in the name of a BrainOmni, which trains none; in names for the same reason."""


def _name(kind: str, config: TrainingConfig, network: Config, packages: Mapping[str, str]) -> str:
    replaced = {"network", "overrides", "from_model", "transfer", "tokenizer", "encoder"}
    fields = {key: value for key, value in config.product_fields().items() if key not in replaced}
    if config.from_model is not None:
        from emeg.training.warm_start import source_folder

        weights = source_folder(Store.open(config.root), config.from_model) / "model.safetensors"
        fields["from"] = {"weights": sha256_file(weights), "transfer": config.transfer}
    fields["steps"] = fields["steps"] or UNUSED_STEPS.get(kind, 0)
    fields["optimiser"] = {"quantizer_learning_rate": UNUSED_LEARNING_RATE, **fields["optimiser"]}
    named = {"kind": kind, "version": __version__, "network": network.product_fields(), "config": fields}
    if packages:  # another version of a package may train another model from the same settings
        named["packages"] = dict(packages)
    return hash_json(named)


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
