"""Recipes: the only place of their values, equal to the paper's table where stated; a caller's values win."""

import json
from importlib import resources

import pytest
import yaml
from pydantic import BaseModel
from tests.messages import refusal

from emeg.cli import main, parse_config
from emeg.errors import UserError
from emeg.evaluation import FinetuneConfig
from emeg.training import PretrainConfig, TokenizeConfig, TrainTokenizerConfig
from emeg.training.configs import FinetuneRecipe, TrainingConfig
from emeg.training.division import divide
from emeg.training.launch.slurm import dump_for_node
from emeg.training.product_names import encoder_name, encoder_network, tokenizer_name, tokenizer_network
from emeg.training.recipes import FromRecipe, kind_of, refuse_default

CONFIGS = {"braintokenizer": TrainTokenizerConfig, "brainomni": PretrainConfig, "finetune": FinetuneConfig}
RECIPES = {
    entry.name.removesuffix(".yaml"): yaml.safe_load(entry.read_text(encoding="utf-8"))
    for entry in (resources.files("emeg") / "recipes").iterdir()
    if entry.name.startswith(tuple(CONFIGS))
}


def config_of(name: str, **given: object) -> TrainingConfig:
    return CONFIGS[name.partition("-")[0]](root="store", recipe=name, **given)


def undocumented(cls: type[BaseModel], path: str) -> list[str]:
    missing = []
    for name, info in cls.model_fields.items():
        if not (info.description or "").strip():
            missing.append(f"{path}.{name}")
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            missing += undocumented(info.annotation, f"{path}.{name}")
    return missing


@pytest.mark.parametrize("cls", [TrainTokenizerConfig, PretrainConfig, TokenizeConfig, FinetuneRecipe])
def test_every_field_is_explained(cls):
    assert undocumented(cls, cls.__name__) == []


def test_there_are_the_papers_recipes():
    assert {"braintokenizer", "brainomni-tiny", "brainomni-base"} < set(RECIPES)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_loads_and_survives_a_round_trip(name):
    config = config_of(name)
    assert type(config).model_validate(config.model_dump(mode="json")) == config
    assert type(config).model_validate(config.model_dump(exclude_none=True)) == config


def stated(values: dict[str, object]) -> set[str]:
    return {f"{key}.{inner}" for key, value in values.items() if isinstance(value, dict) for inner in value} | {*values}


def without_default(cls: type[BaseModel]) -> set[str]:
    found = set()
    for name, field in cls.model_fields.items():
        inner = field.annotation
        if field.default_factory is refuse_default:
            found.add(name)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= {f"{name}.{below}" for below in without_default(inner)}
    return found


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_value_stands_in_the_recipes_or_in_the_class_but_not_in_both(name):
    """The sampling plan is used without recipes too, so its fields have defaults of their own.

    Fields that are None where nothing is stated have no value in the class.
    """
    cls = CONFIGS[name.partition("-")[0]]
    open_fields = without_default(cls)
    assert open_fields <= stated(RECIPES[name])
    assert {key for key in stated(RECIPES[name]) - open_fields if not key.startswith("sampling.")} <= {
        "steps",
        "epochs",
        "step_segments",
        "late_channels",
        "late_from",
    }
    assert all(
        cls.model_fields[key].default is None
        for key in ("steps", "epochs", "step_segments", "late_channels")
        if key in cls.model_fields
    )


def test_a_value_that_no_recipe_states_is_named():
    with pytest.raises(ValueError, match="recipe"):
        FinetuneRecipe(epochs=2)


# What a caller may choose against a recipe: equal to another recipe's value, to a field's own default, or nothing.
CHOICES = [
    ("braintokenizer", {"steps": 1500}),
    ("braintokenizer", {"keep": "best", "optimiser": {"learning_rate": 2e-3}}),
    ("braintokenizer-nano", {"epochs": 0.5, "sampling": {"crop_s": None, "weights": {}}}),
    ("braintokenizer-nano", {"sampling": {"max_channels": None, "micro_batches": 1}, "resume": "never"}),
    ("brainomni-base", {"steps": 300, "weights": {"meg": 2.0}}),
    ("brainomni-tiny", {"network": "nano", "log_every": 10}),
]


def as_flags(values: dict[str, object], prefix: str = "") -> list[str]:
    flags = []
    for key, value in values.items():
        flags += as_flags(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"--{prefix}{key}", str(value)]
    return flags


@pytest.mark.parametrize(("recipe", "given"), CHOICES)
def test_flags_files_forms_and_dumps_mean_the_same(recipe, given, tmp_path):
    config = config_of(recipe, **given)
    cls = type(config)
    file = tmp_path / "job.yaml"

    def from_file(text: str) -> FromRecipe:
        file.write_text(text)
        return parse_config("x", cls, ["--config", str(file)])

    assert from_file(yaml.safe_dump({"root": "store", "recipe": recipe, **given})) == config
    assert from_file(yaml.safe_dump(config.model_dump(mode="json"))) == config
    assert from_file(dump_for_node(config)) == config
    assert cls.model_validate_json(config.model_dump_json()) == config
    if "None" not in (text := " ".join(as_flags(given))) and "{}" not in text:
        assert parse_config("x", cls, ["--root", "store", "--recipe", recipe, *text.split()]) == config
    # a form sends what the schema has as defaults, besides what was filled in
    assert (
        cls.model_validate({**defaults(cls.model_json_schema()), "root": "store", "recipe": recipe, **given}) == config
    )


def defaults(schema: dict[str, object]) -> dict[str, object]:
    found = {}
    for name, described in schema["properties"].items():
        if "default" in described:
            found[name] = described["default"]
        elif "properties" in described:
            found[name] = defaults(described)
    return {name: value for name, value in found.items() if value != {}}


@pytest.mark.parametrize("cls", CONFIGS.values())
def test_a_form_asks_only_for_the_store_and_fills_in_only_the_recipe(cls):
    schema = cls.model_json_schema()
    assert schema["required"] == ["root"]
    assert schema["properties"]["recipe"].pop("default") == cls.model_fields["recipe"].default
    assert '"default":' not in json.dumps({key: value for key, value in schema.items() if key != "$defs"})


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_the_values_of_a_chosen_recipe_can_be_shown(name):
    cls = CONFIGS[name.partition("-")[0]]
    shown = cls.defaults_for({"recipe": name})
    assert shown == {**RECIPES[name], "recipe": name}
    assert cls.defaults_for({})["recipe"] == cls.model_fields["recipe"].default


# Names under which the version before these recipes stored its products
NAMES = {
    "braintokenizer": "2e83255f23f877ca",
    "braintokenizer-nano": "2785865465ce31c6",
    "brainomni-tiny": "374d6ec2cffbfe2b",
    "brainomni-base": "0ce5bb2beec64996",
    "brainomni-nano": "7e9664c5a51ad285",
}


@pytest.mark.parametrize(("name", "expected"), NAMES.items())
def test_products_of_the_shipped_recipes_keep_their_names(name, expected):
    config = divide(config_of(name), 1)
    found = tokenizer_name(config) if isinstance(config, TrainTokenizerConfig) else encoder_name(config)
    assert found == expected


def test_steps_and_epochs_exclude_each_other():
    with pytest.raises(ValueError, match=r"steps.*epochs"):
        config_of("brainomni-tiny", steps=3, epochs=2)
    assert config_of("brainomni-tiny", steps=7).epochs is None
    assert config_of("brainomni-tiny", steps=None).epochs == 32


# Table of arXiv 2505.18185: segments a step, epochs, betas, eps, learning rate, decay, warm-up, start, final
PAPER = {
    "braintokenizer": (512, 16, (0.5, 0.9), 1e-5, 2e-4, 1e-2, 0.1, 0.1, 0.05),
    "brainomni-tiny": (256, 32, (0.9, 0.95), 1e-6, 5e-4, 0.05, 0.1, 0.1, 0.1),
    "brainomni-base": (256, 32, (0.9, 0.95), 1e-6, 4e-4, 0.05, 0.1, 0.1, 0.1),
}


@pytest.mark.parametrize(("name", "expected"), PAPER.items())
def test_the_papers_recipes_are_its_table(name, expected):
    config = config_of(name)
    o = config.optimiser
    if isinstance(config, PretrainConfig):
        divided = divide(config, 1)
        segments = divided.batch_segments * divided.micro_batches
        assert config.step_segments == segments
        assert encoder_network(config).lm_dropout == 0.1
    else:
        assert isinstance(config, TrainTokenizerConfig)
        assert o.quantizer_learning_rate == 3e-4
        assert tokenizer_network(config).dropout == 0
        # a segment of the paper: 64 channels (its usual EEG), 10 s
        divided = divide(config, 1)
        segments = divided.sampling.budget_channel_seconds * divided.sampling.micro_batches / (64 * 10)
        assert config.sampling.step_channel_seconds == segments * 64 * 10
    found = (o.betas, o.eps, o.learning_rate, o.weight_decay, o.warmup, o.start_factor, o.final_factor)
    assert (segments, config.epochs, *found) == expected
    assert config.precision == "auto"


def test_the_caller_wins_over_the_recipe(tmp_path):
    paper = config_of("braintokenizer")
    changed = config_of("braintokenizer", optimiser={"learning_rate": 1e-3})
    assert changed.optimiser.learning_rate == 1e-3
    assert changed.optimiser.eps == paper.optimiser.eps
    assert config_of("brainomni-tiny", steps=7).total_steps(1000) == 7
    assert config_of("brainomni-tiny", epochs=2).total_steps(1000) == 2000
    own = tmp_path / "mine.yaml"
    own.write_text("steps: 5\noptimiser: {learning_rate: 0.25}\n")
    mine = TrainTokenizerConfig(root="store", recipe=str(own))
    assert (mine.steps, mine.optimiser.learning_rate, mine.network) == (
        5,
        0.25,
        TrainTokenizerConfig(root="store").network,
    )


def test_a_recipe_of_ones_own_extends_another(tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text("extends: braintokenizer\nsteps: 5\n")
    mine = TrainTokenizerConfig(root="store", recipe=str(own))
    assert (mine.steps, mine.epochs, mine.network, mine.ramp_steps) == (5, None, "paper", 300)
    own.write_text(f"extends: {own}\n")
    with refusal(UserError, "mine.yaml", action="`extends`"):
        TrainTokenizerConfig(root="store", recipe=str(own))


def test_recipes_that_extend_each_other_are_refused(tmp_path):
    """Two files, and three of which the last returns to the second."""
    names = [tmp_path / f"{name}.yaml" for name in "abc"]
    for own, base in zip(names, (names[1], names[2], names[1]), strict=True):
        own.write_text(f"extends: {base}\n")
    for name in names[:2]:
        with refusal(UserError, str(name), "c.yaml", action="`extends`"):
            TrainTokenizerConfig(root="store", recipe=str(name))
    with refusal(UserError, "a.yaml", action="`extends`"):
        kind_of(str(names[0]))


def test_a_recipe_of_another_verb_names_the_verb_and_the_file_that_extends_it(tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text("extends: brainomni-nano\n")
    for name in (str(own), "brainomni-nano"):
        with refusal(UserError, name, "'brainomni-nano'" if name == str(own) else "recipe", action="emeg pretrain"):
            TrainTokenizerConfig(root="store", recipe=name)
    own.write_text("extends: nix\n")
    with refusal(UserError, "mine.yaml", "'nix'", action="choose from"):
        TrainTokenizerConfig(root="store", recipe=str(own))


def test_fine_tuning_takes_a_recipe():
    paper = FinetuneConfig(root="store", recipe="finetune-paper", fit={"epochs": 3})
    assert (paper.fit.epochs, paper.fit.batch_size, paper.fit.max_channels) == (3, 128, None)
    stored = paper.product_fields()
    assert stored["recipe"]["batch_size"] == 128
    assert "fit" not in stored
    assert FinetuneConfig.checked(stored | {"root": "store"}, source="model").product_fields() == stored


@pytest.mark.parametrize("name", ["huge", "brainomni-tiny", "finetune-nano", "datasets"])
def test_a_recipe_of_another_verb_is_refused(name):
    with refusal(UserError, repr(name), action="braintokenizer, "):
        TrainTokenizerConfig(root="store", recipe=name)


@pytest.mark.parametrize(
    ("verb", "recipe", "option", "shown"),
    [
        ("pretrain", "brainomni-base", "optimiser.learning-rate", "0.0004"),
        ("pretrain", "brainomni-tiny", "batch-segments", "128"),
        ("train-tokenizer", "braintokenizer", "sampling.micro-batches", "16"),
        ("finetune", "finetune-paper", "fit.batch-size", "128"),
    ],
)
def test_help_shows_the_values_of_the_chosen_recipe(verb, recipe, option, shown, capsys):
    main([verb, "--recipe", recipe, "--help"])
    line = next(line for line in capsys.readouterr().out.splitlines() if f"--{option} " in line)
    assert f"default {shown}]" in line
