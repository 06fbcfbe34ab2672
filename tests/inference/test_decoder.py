"""`Decoder` returns what the parts of the network return, keeps gradients, and names the arguments that it refuses."""

import json

import mne
import numpy as np
import pytest
import torch
from tests.inference.conftest import NAMES, brain_like, eeg_info
from tests.messages import refusal
from tests.small_models import SMALL
from torch.nn import functional as F

import emeg
from emeg.errors import UserError
from emeg.inference import Decoder, Embedder
from emeg.inference.decoder import RunningStandardise
from emeg.inference.input_windows import resample_windows
from emeg.models import BrainOmni, load_encoder, pool
from emeg.tokenizers.braintokenizer import normalise_signal


def signal(n=4, n_samples=1024, sfreq=256.0, seed=0):
    return torch.from_numpy(
        np.stack([brain_like(len(NAMES), n_samples, sfreq, seed + k) for k in range(n)]).astype(np.float32)
    )


def decoder_of(model, info, **arguments):
    given = {"n_outputs": 3, "chs_info": info["chs"], "sfreq": 256.0, "n_times": 1024} | arguments
    return Decoder.from_pretrained(model, **given)


def test_the_features_are_those_of_the_parts(model, info):
    decoder = decoder_of(model, info, pooling="mean_std")
    x = signal()
    network = BrainOmni.from_pretrained(model)
    # positions as another public object computes them: an Embedder of the same info reads the same sensors
    pos, types = decoder._pos.expand(4, -1, -1), torch.zeros(4, len(NAMES), dtype=torch.int64)
    with torch.no_grad():
        latents = network.tokenizer.encode_latents(normalise_signal(x, types), pos, types, overlap=0.25)
        expected = pool(network.embed_latents(latents), "mean_std")
        found = decoder(x, return_features=True)
        outputs = decoder(x)
    scaled = expected / np.sqrt(1 + 1e-6)  # nothing was trained: mean 0, variance 1
    torch.testing.assert_close(found["features"], scaled)
    assert found["cls_token"] is None
    torch.testing.assert_close(outputs, F.linear(scaled, decoder.final_layer.weight, decoder.final_layer.bias))


def test_gradients_reach_the_input_and_every_weight_in_use(model, info):
    decoder = decoder_of(model, info, sfreq=250.0, n_times=1000).train()
    x = signal(n_samples=1000, sfreq=250.0).requires_grad_()
    decoder(x).square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    without = {name for name, p in decoder.named_parameters() if p.grad is None}
    allowed = ("backbone.predict_head", "backbone.mask_token", "backbone.tokenizer", "backbone.blocks.1.")
    assert all(name.startswith(allowed) for name in without)
    assert any(
        name.startswith("backbone.tokenizer.encoder") and p.grad is not None for name, p in decoder.named_parameters()
    )


def test_another_rate_is_resampled_as_the_embedder_resamples(model, info):
    decoder = decoder_of(model, info, sfreq=500.0, n_times=2000)
    x = signal(n_samples=2000, sfreq=500.0)
    expected = resample_windows(x.numpy(), 500.0)
    np.testing.assert_allclose(decoder._resampled(x).numpy(), expected, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize(("unit", "factor"), [("V", 1.0), ("mV", 1e3), ("uV", 1e6), ("nV", 1e9)])
def test_units_give_the_same_outputs(model, info, unit, factor):
    torch.manual_seed(1)
    expected = decoder_of(model, info)
    other = decoder_of(model, info, unit=unit)
    other.load_state_dict(expected.state_dict())
    x = signal()
    with torch.no_grad():
        torch.testing.assert_close(other(x * factor), expected(x), rtol=1e-4, atol=1e-5)


def test_meg_keeps_its_unit_beside_eeg_in_microvolt(model):
    """The unit concerns EEG alone; a magnetometer in fT is refused."""
    info = mne.create_info([*NAMES, "MEG 0111", "MEG 0121"], 256.0, ["eeg"] * 10 + ["mag"] * 2)
    info.set_montage("colin27_1005", on_missing="ignore")
    for k, channel in enumerate(info["chs"][10:]):
        channel["loc"] = np.array([0.05 * (-1) ** k, 0.02, 0.1, 1, 0, 0, 0, 1, 0, 0, 0, 1.0])
        channel["coil_type"] = 3024
    rng = np.random.default_rng(0)
    meg = torch.from_numpy(1e-12 * rng.standard_normal((2, 2, 1024)).astype(np.float32))
    decoder = Decoder.from_pretrained(model, n_outputs=2, chs_info=info["chs"], sfreq=256.0, unit="uV")
    decoder(torch.cat([1e6 * signal(2), meg], dim=1))
    again = Decoder.from_pretrained(model, n_outputs=2, chs_info=info["chs"], sfreq=256.0, unit="uV")
    with refusal(UserError, "magnetometers", action="1e-15"):
        again(torch.cat([1e6 * signal(2), 1e15 * meg], dim=1))


def test_a_signal_in_another_unit_is_refused_once_and_zeros_are_not(model, info):
    decoder = decoder_of(model, info)
    assert decoder.get_output_shape() == (1, 3)
    with refusal(UserError, "EEG", action="unit="):
        decoder(1e6 * signal())


def test_a_saved_decoder_comes_back_with_its_head(model, info, tmp_path):
    decoder = decoder_of(model, info, unit="uV", layers=(1, 2)).train()
    for k in range(3):
        decoder(1e6 * signal(seed=10 * k))
    decoder.eval().save_pretrained(tmp_path / "a")
    again = Decoder.from_pretrained(tmp_path / "a")
    x = 1e6 * signal()
    with torch.no_grad():
        assert torch.equal(again(x), decoder(x))
        other = Decoder.from_pretrained(tmp_path / "a", n_outputs=5)
        assert other(x).shape == (4, 5)
        assert torch.equal(other(x, return_features=True)["features"], decoder(x, return_features=True)["features"])
    again.save_pretrained(tmp_path / "b")
    assert (tmp_path / "a/config.json").read_bytes() == (tmp_path / "b/config.json").read_bytes()
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


def test_the_configuration_is_json_and_makes_the_same_decoder(model, info):
    config = json.loads(json.dumps(decoder_of(model, info).get_config(), allow_nan=False))
    again = Decoder.from_config(config)
    assert again.get_config() == config
    again.reset_head(7)
    assert again(signal()).shape == (4, 7)


def test_channels_without_position_change_nothing(model, info):
    more = mne.create_info([*NAMES, "X1"], 256.0, "eeg")
    more.set_montage("colin27_1005", on_missing="ignore")
    torch.manual_seed(0)
    plain = decoder_of(model, info)
    wide = decoder_of(model, more)
    wide.load_state_dict(plain.state_dict())
    x = signal()
    with torch.no_grad():
        torch.testing.assert_close(wide(torch.cat([x, 1e-5 * torch.ones(4, 1, 1024)], dim=1)), plain(x))


@pytest.mark.parametrize(
    ("changed", "argument", "action"),
    [
        ({"n_outputs": 0}, "n_outputs", "at least 1"),
        ({"chs_info": [{"kind": 2}]}, "ch_name", "mne.Info"),
        ({"chs_info": [{"ch_name": "nowhere"}]}, "1", "montage"),
        ({"n_chans": 3}, "n_chans", "n_chans"),
        ({"sfreq": None, "n_times": 1000}, "sfreq", "Hz"),
        ({"input_window_seconds": 3.0}, "n_times", "one"),
        ({"unit": "µV"}, "unit", "uV"),
        ({"pooling": "max"}, "pooling", "log_std"),
        ({"layers": (9,)}, "layers", "0 to 2"),
    ],
)
def test_arguments_are_refused_by_name(model, info, changed, argument, action):
    given = {"n_outputs": 3, "chs_info": info["chs"], "sfreq": 256.0, "n_times": 1024, "config": model} | changed
    with refusal(UserError, argument, action=action):
        Decoder(**given)


def test_missing_arguments_and_shapes_are_refused(model, info, tmp_path):
    with refusal(UserError, "chs_info", action="channels"):
        Decoder(n_outputs=2, sfreq=256.0)
    with refusal(UserError, "config", action="model folder"):
        Decoder(n_outputs=2, sfreq=256.0, chs_info=info["chs"])
    with refusal(UserError, "config.json", action="folder"):
        Decoder(n_outputs=2, sfreq=256.0, chs_info=info["chs"], config=tmp_path)
    with refusal(UserError, "shape", action="chs_info"):
        decoder_of(model, info)(signal()[:, :4])


def test_a_mapping_is_an_architecture(info):
    sizes = {"config": {"lm_dim": 32, "lm_head": 4, "lm_depth": 2}, "tokenizer": SMALL}
    decoder = Decoder(2, None, info["chs"], None, 4.0, 256.0, config=sizes)
    assert decoder.n_times == 1024
    assert decoder.input_shape == (1, 10, 1024)
    assert decoder(signal()).shape == (4, 2)


def test_standardising_follows_the_batches():
    """After the first batch the statistics are those of the batch; later batches have a weight of 0.1."""
    layer = RunningStandardise(2).train()
    first, second = torch.tensor([[0.0, 2.0], [2.0, 6.0]]), torch.tensor([[11.0, 4.0], [11.0, 4.0]])
    torch.testing.assert_close(layer(first), torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), rtol=1e-5, atol=1e-5)
    layer(second)
    torch.testing.assert_close(layer.mean, torch.tensor([0.9 * 1 + 0.1 * 11, 4.0]))
    torch.testing.assert_close(layer.variance, torch.tensor([0.9, 3.6]))
    before = layer.mean.clone()
    layer(first[:1])
    assert torch.equal(layer.mean, before), "one window has no variance"


def test_epochs_in_scikit_learns_cross_validation(model):
    """Cross-validation passes a list of Epochs; features equal those of the Epochs at once."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.pipeline import make_pipeline

    info = eeg_info(256.0)
    epochs = mne.EpochsArray(signal(12).numpy(), info, verbose="ERROR")
    labels = np.arange(12) % 2
    embedder = Embedder(model)
    assert np.array_equal(embedder.transform([epochs[0], epochs[5]]), embedder.transform(epochs[[0, 5]]))
    pipeline = make_pipeline(embedder, LogisticRegression(C=0.01, max_iter=2000))
    assert cross_val_score(pipeline, epochs, labels, cv=3).shape == (3,)
    search = GridSearchCV(pipeline, {"embedder__pooling": ["mean", "log_std"]}, cv=2).fit(epochs, labels)
    assert search.best_params_["embedder__pooling"] in {"mean", "log_std"}
    with refusal(UserError, "X", action="one recording"):
        embedder.transform([epochs[0], epochs.copy().pick(NAMES[:4])[0]])


def test_microvolts_are_an_option_of_the_embedder(model):
    info = eeg_info(256.0)
    volts = signal(3).numpy().astype(np.float64)
    expected = Embedder(model, info=info).transform(volts)
    np.testing.assert_allclose(Embedder(model, info=info, unit="uV").transform(1e6 * volts), expected, atol=1e-4)
    with refusal(UserError, "EEG", action="unit="):
        Embedder(model, info=info).transform(1e6 * volts)
    with refusal(UserError, "EEG", action="unit="):
        Embedder(model, info=info, unit="uV").transform(volts)


def test_the_name_at_the_top_is_the_same():
    assert emeg.Decoder is Decoder


def test_every_registered_encoder_is_a_backbone(other_encoder, info, tmp_path):
    decoder = decoder_of(other_encoder, info)
    encoder = load_encoder(other_encoder)
    x, pos, types = signal(2), decoder._pos.expand(2, -1, -1), torch.zeros(2, len(NAMES), dtype=torch.int64)
    with torch.no_grad():
        embedded = encoder.embed_differentiably(normalise_signal(x, types), pos, types, overlap=0.0)
        found = decoder(x, return_features=True)["features"]
    torch.testing.assert_close(found, pool(embedded, "log_std") / np.sqrt(1 + 1e-6))
    decoder.train()(x).square().sum().backward()
    trained = {name.split(".")[1] for name, p in decoder.named_parameters() if p.grad is not None and p.grad.any()}
    assert trained & {"blocks", "scales"}
    decoder.eval().save_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(Decoder.from_pretrained(tmp_path)(x), decoder(x))
    assert Decoder.from_config(decoder.get_config()).get_config() == decoder.get_config()
