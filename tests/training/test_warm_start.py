"""Training that starts from another model: loaded weights, refusals, recorded lineage, names of products."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.messages import refusal
from tests.small_models import SMALL

from emeg.errors import UserError
from emeg.models import BrainOmni, BrainOmniConfig
from emeg.store import Store
from emeg.tokenizers.braintokenizer import BrainTokenizer, BrainTokenizerConfig
from emeg.training import PretrainConfig, TrainTokenizerConfig
from emeg.training.product_names import tokenizer_name
from emeg.training.warm_start import begin_from, prepare_new


@pytest.fixture
def store(tmp_path) -> Store:
    return Store.open(tmp_path / "store", create=True)


def tokenizer(seed: int, **changes: object) -> BrainTokenizer:
    torch.manual_seed(seed)
    return BrainTokenizer(BrainTokenizerConfig.model_validate({**SMALL, **changes}))


def config(store: Store, **fields: object) -> TrainTokenizerConfig:
    return TrainTokenizerConfig.model_validate({"root": str(store.root), "overrides": SMALL, **fields})


def test_a_tokenizer_continues_from_a_folder_and_from_a_model_of_the_store(store, tmp_path):
    first = tokenizer(0)
    first.save_pretrained(tmp_path / "first", provenance={"corpus": "c1"})
    with store.publishing("models", "a" * 16) as folder:
        first.save_pretrained(Path(folder), provenance={"corpus": "c2", "started_from": {"corpus": "c0"}})
    for source, corpus in ((str(tmp_path / "first"), "c1"), ("a" * 16, "c2")):
        network = tokenizer(1)
        lineage = begin_from(network, config(store, from_model=source), store, role="tokenizer")
        assert all(torch.equal(value, first.state_dict()[name]) for name, value in network.state_dict().items())
        assert lineage["corpus"] == corpus
        assert (lineage["missing"], lineage["unknown"], lineage["reshaped"]) == ([], [], [])
        assert json.loads(json.dumps(lineage)) == lineage
    assert lineage["model"] == "a" * 16
    assert lineage["started_from"] == {"corpus": "c0"}


def test_nothing_to_begin_from_is_no_lineage(store):
    assert begin_from(tokenizer(0), config(store), store, role="tokenizer") == {}


def test_differences_are_refused_without_transfer_and_recorded_with_it(store, tmp_path):
    tokenizer(0, n_neuro=6).save_pretrained(tmp_path / "other")
    network = tokenizer(1, equaliser=0.75, target="signal")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    given = config(store, from_model=str(tmp_path / "other"))
    with refusal(UserError, "missing: equaliser.gain", "shape: encoder.neuros", action="--transfer"):
        begin_from(network, given, store, role="tokenizer")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    lineage = begin_from(network, given.model_copy(update={"transfer": True}), store, role="tokenizer")
    assert lineage["reshaped"] == ["encoder.neuros"]
    assert lineage["missing"] == ["equaliser.gain"]
    state, stored = network.state_dict(), load_file(tmp_path / "other" / "model.safetensors")
    assert torch.equal(state["encoder.neuros"], before["encoder.neuros"])
    assert torch.equal(state["encoder.k_proj.weight"], stored["encoder.k_proj.weight"])
    assert lineage["n_loaded"] == len(before) - 2


def test_a_brainomni_gives_its_tokenizer_and_its_transformer(store, tmp_path):
    torch.manual_seed(0)
    omni = BrainOmniConfig(lm_dim=16, lm_head=2, lm_depth=2)
    model = BrainOmni(omni, BrainTokenizerConfig.model_validate(SMALL))
    model.save_pretrained(tmp_path / "omni")
    network = tokenizer(1)
    begin_from(network, config(store, from_model=str(tmp_path / "omni")), store, role="tokenizer")
    assert torch.equal(network.encoder.neuros, model.tokenizer.encoder.neuros)
    torch.manual_seed(1)
    other = BrainOmni(omni, tokenizer(2))
    own_tokenizer = other.tokenizer.encoder.neuros.clone()
    pretrain = PretrainConfig.model_validate({"root": str(store.root), "from_model": str(tmp_path / "omni")})
    begin_from(other, pretrain, store, role="encoder")
    assert torch.equal(other.predict_head.weight, model.predict_head.weight)
    assert torch.equal(other.tokenizer.encoder.neuros, own_tokenizer)


def test_product_names_follow_the_weights_and_not_the_path(store, tmp_path):
    tokenizer(0).save_pretrained(tmp_path / "one")
    tokenizer(0).save_pretrained(tmp_path / "same")
    tokenizer(1).save_pretrained(tmp_path / "other")
    plain, one, same, other = (
        tokenizer_name(config(store, corpus="c", from_model=source))
        for source in (None, *(str(tmp_path / name) for name in ("one", "same", "other")))
    )
    assert one == same
    assert len({plain, one, other}) == 3
    with refusal(UserError, "--from nowhere", action="import-reference"):
        tokenizer_name(config(store, corpus="c", from_model="nowhere"))


@pytest.fixture
def segment() -> tuple[torch.Tensor, ...]:
    """Return signal of five electrodes with a steep spectrum, positions and types."""
    noise = torch.randn(1, 5, 1024, generator=torch.Generator().manual_seed(0)).cumsum(-1)
    return noise - noise.mean(-1, keepdim=True), torch.zeros(1, 5, 6), torch.zeros(1, 5, dtype=torch.long)


@pytest.mark.parametrize("lack", ["nothing", "gain", "shape"])
def test_a_warm_start_fits_only_what_the_weights_lack(store, tmp_path, segment, lack):
    """The equaliser of the source stays as it is; one that is absent or of another length is fitted to the new data."""
    sizes = {"equaliser": 0.75, "target": "signal"}
    first = tokenizer(0, **sizes if lack != "gain" else {})
    if lack == "nothing":
        with torch.no_grad():
            first.equaliser.gain.fill_(1.5)
    first.save_pretrained(tmp_path / "first")
    if lack == "shape":
        weights = load_file(tmp_path / "first" / "model.safetensors")
        save_file(weights | {"equaliser.gain": torch.full((6, 3), 1.5)}, tmp_path / "first" / "model.safetensors")
    network = tokenizer(1, **sizes)
    given = config(store, from_model=str(tmp_path / "first"), transfer=True)
    prepare_new(network, begin_from(network, given, store, role="tokenizer"), lambda: network.prepare([segment]))
    fresh = tokenizer(2, **sizes)
    prepare_new(fresh, {}, lambda: fresh.prepare([segment]))
    wanted = first.equaliser.gain if lack == "nothing" else fresh.equaliser.gain
    assert torch.equal(network.equaliser.gain, wanted)
    assert fresh.equaliser.gain[0].std() > 0.1


def test_a_buffer_that_is_absent_does_not_refit_the_others(store):
    """An encoder with three fitted buffers, two of them loaded, one of these without a dimension."""

    class Three(torch.nn.Module):
        fitted = ("first", "second", "scalar")

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("first", torch.zeros(3))
            self.register_buffer("second", torch.zeros(3))
            self.register_buffer("scalar", torch.zeros(()))

        def prepare(self) -> None:
            self.first.fill_(7.0)
            self.second.fill_(7.0)
            self.scalar.fill_(7.0)

    network = Three()
    network.first.fill_(1.0)
    network.scalar.fill_(1.0)
    prepare_new(network, {"missing": ["second"], "reshaped": [], "longer": {}}, network.prepare)
    assert network.first.tolist() == [1.0] * 3
    assert network.second.tolist() == [7.0] * 3
    assert float(network.scalar) == 1.0


def test_a_model_of_three_sensor_types_begins_a_training_with_six(store, tmp_path):
    """Rows of known types are those of the model; rows of intracranial types are new, and fitted gains are fitted."""
    sizes = {"equaliser": 0.75, "target": "signal"}
    first = tokenizer(0, **sizes)
    with torch.no_grad():
        first.equaliser.gain.copy_(2.0 * torch.rand_like(first.equaliser.gain) + 0.1)
    first.save_pretrained(tmp_path / "outer")
    network = tokenizer(1, intracranial=True, **sizes)
    before = network.sensor_embed.sensor_embedding_layer.weight.detach().clone()
    lineage = begin_from(network, config(store, from_model=str(tmp_path / "outer")), store, role="tokenizer")
    assert lineage["longer"] == {"sensor_embed.sensor_embedding_layer.weight": 3, "equaliser.gain": 3}
    assert (lineage["missing"], lineage["unknown"], lineage["reshaped"]) == ([], [], [])
    table = network.sensor_embed.sensor_embedding_layer.weight.detach()
    assert torch.equal(table[:3], first.sensor_embed.sensor_embedding_layer.weight)
    assert torch.equal(table[3:], before[3:])
    noise = torch.randn(1, 5, 1024, generator=torch.Generator().manual_seed(0))
    segment = (noise.cumsum(-1) - noise.cumsum(-1).mean(-1, keepdim=True), torch.zeros(1, 5, 6), torch.full((1, 5), 3))
    prepare_new(network, lineage, lambda: network.prepare([segment]))
    gain = network.equaliser.gain
    assert torch.equal(gain[:3], first.equaliser.gain)
    assert not torch.equal(gain[3], torch.ones_like(gain[3]))
    with refusal(UserError, "sensor_embedding_layer", action="--transfer"):  # the other way round, rows would be lost
        network.save_pretrained(tmp_path / "intracranial")
        given = config(store, from_model=str(tmp_path / "intracranial"))
        begin_from(tokenizer(2, **sizes), given, store, role="tokenizer")
