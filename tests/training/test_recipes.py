"""Recipes: those of the paper say what its table says, every field is explained, and what the caller gives wins."""

from importlib import resources

import pytest
import yaml
from pydantic import BaseModel

from emeg.errors import UserError
from emeg.training import PretrainConfig, TokenizeConfig, TrainTokenizerConfig
from emeg.training.configs import FinetuneRecipe, TrainingConfig
from emeg.training.product_names import brainomni_network, tokenizer_network

CONFIGS = {"braintokenizer": TrainTokenizerConfig, "brainomni": PretrainConfig}
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
def test_a_recipe_loads_survives_a_round_trip_and_leaves_no_part_of_the_optimiser_open(name):
    config = config_of(name)
    assert type(config).model_validate(config.model_dump(mode="json")) == config
    assert set(RECIPES[name]["optimiser"]) | {"quantizer_learning_rate"} == set(type(config.optimiser).model_fields)


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
        segments = config.batch_segments * config.micro_batches
        assert brainomni_network(config).lm_dropout == 0.1
    else:
        assert isinstance(config, TrainTokenizerConfig)
        assert o.quantizer_learning_rate == 3e-4
        assert tokenizer_network(config).dropout == 0
        # a segment of the paper: 64 channels (its usual EEG), 10 s
        segments = config.sampling.budget_channel_seconds * config.sampling.micro_batches / (64 * 10)
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
    assert (mine.steps, mine.optimiser.learning_rate) == (5, 0.25)


@pytest.mark.parametrize("name", ["huge", "brainomni-tiny", "finetune-nano", "datasets"])
def test_a_recipe_that_is_none_of_the_verbs_is_refused(name):
    with pytest.raises(UserError, match="known are braintokenizer, braintokenizer-nano, or"):
        TrainTokenizerConfig(root="store", recipe=name)
