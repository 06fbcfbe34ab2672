"""`Embedder` returns the network's embeddings for every form of input, and follows scikit-learn's rules."""

import pickle

import mne
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import SkipTestWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import (
    check_estimator,
    check_estimator_repr,
    check_get_params_invariance,
    check_no_attributes_set_in_init,
    check_parameters_default_constructible,
    check_set_params,
    check_valid_tag_types,
)
from tests.inference.conftest import brain_like, eeg_info
from tests.messages import refusal

import emeg
from emeg.errors import EmegError, UserError
from emeg.inference import Embedder
from emeg.inference.input_windows import usable_sensors
from emeg.models import BrainOmni
from emeg.sensors import sensors_from_info
from emeg.tokenizers.braintokenizer import normalise_signal


def epochs_of(n=6, seconds=4.0, sfreq=256.0, seed=0):
    data = np.stack([brain_like(10, round(seconds * sfreq), sfreq, seed + i) for i in range(n)])
    return mne.EpochsArray(data, eeg_info(sfreq), verbose="ERROR")


def test_features_are_the_networks_own_mean_embedding(model):
    epochs = epochs_of()
    network = BrainOmni.from_pretrained(model)
    sensors = sensors_from_info(epochs.info).sensors
    x = torch.from_numpy(epochs.get_data(copy=False).astype(np.float32))
    types = torch.zeros(len(x), 10, dtype=torch.int64)
    pos = torch.from_numpy(sensors.model_positions()).expand(len(x), -1, -1)
    with torch.no_grad():
        expected = network.embed(normalise_signal(x, types), pos, types)
    embedder = Embedder.from_pretrained(model, batch_size=4)
    np.testing.assert_allclose(embedder.transform(epochs), expected.mean(2).flatten(1).numpy(), atol=1e-5)
    steps = Embedder(model, pooling="none").fit_transform(epochs)
    np.testing.assert_allclose(steps, expected.numpy(), atol=1e-5)
    both = Embedder(model, pooling="mean_std").transform(epochs)
    np.testing.assert_allclose(both[:, 128:], expected.std(2, correction=0).flatten(1).numpy(), atol=1e-5)
    assert len(Embedder(model, pooling="mean_std").get_feature_names_out()) == both.shape[1]


def test_arrays_and_epochs_give_the_same(model):
    epochs = epochs_of()
    array = epochs.get_data(copy=True)
    a = Embedder(model).transform(epochs)
    assert np.array_equal(a, Embedder(model, info=epochs.info).transform(array))


def test_a_raw_is_cut_into_windows(model):
    raw = mne.io.RawArray(brain_like(10, 35 * 256, 256.0), eeg_info(256.0), verbose="ERROR")
    raw.info["line_freq"] = 50.0
    assert Embedder(model).transform(raw).shape == (3, 4 * 32)
    assert Embedder(model, window_s=4.0).transform(raw).shape == (8, 4 * 32)


def test_order_of_channels_and_those_without_a_place_do_not_matter(model):
    epochs = epochs_of()
    expected = Embedder(model).transform(epochs)
    turned = epochs.copy().reorder_channels(epochs.ch_names[::-1])
    np.testing.assert_allclose(Embedder(model).transform(turned), expected, atol=1e-5)
    extra = mne.EpochsArray(
        np.full((6, 2, 1024), 1e-5), mne.create_info(["trigger", "EMG1"], 256.0, ["stim", "emg"]), verbose="ERROR"
    )
    with_others = epochs.copy().add_channels([extra], force_update_info=True)
    np.testing.assert_allclose(Embedder(model).transform(with_others), expected, atol=1e-5)


def test_bad_channels_are_left_out(model):
    epochs = epochs_of()
    without = Embedder(model).transform(epochs.copy().drop_channels(["C3"]))
    epochs.info["bads"] = ["C3"]
    np.testing.assert_allclose(Embedder(model).transform(epochs), without, atol=1e-6)


def test_another_rate_is_resampled_as_mne_does_it(model):
    slow = epochs_of(sfreq=512.0)
    expected = slow.copy().filter(None, 96.0, verbose="ERROR").resample(256.0, npad="auto", verbose="ERROR")
    a = Embedder(model).transform(slow)
    b = Embedder(model).transform(expected)
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.99


def test_it_stands_in_a_pipeline(model):
    epochs = epochs_of(n=12)
    labels = np.arange(12) % 2
    line = make_pipeline(Embedder(model, info=epochs.info), LogisticRegression(max_iter=50))
    line.fit(epochs.get_data(copy=True), labels)
    assert line.predict(epochs.get_data(copy=True)).shape == (12,)


def test_scikit_learns_own_checks_pass(model):
    """scikit-learn's checks pass, except those for two-dimensional input, which the tags exclude."""
    with pytest.warns(SkipTestWarning, match="three_d_array=True"):
        results = check_estimator(Embedder(model), on_fail=None)
    assert [result["status"] for result in results] == ["passed"] * len(results)
    assert results
    check_parameters_default_constructible("Embedder", Embedder())
    check_no_attributes_set_in_init("Embedder", Embedder(model))
    check_get_params_invariance("Embedder", Embedder(model))
    check_set_params("Embedder", Embedder(model))
    check_estimator_repr("Embedder", Embedder(model))
    check_valid_tag_types("Embedder", Embedder(model))


def test_clone_and_pickle_leave_the_network_out(model):
    embedder = Embedder.from_pretrained(model, pooling="mean_std")
    copy = clone(embedder)
    assert copy.get_params() == embedder.get_params()
    assert not hasattr(copy, "_loaded")
    again = pickle.loads(pickle.dumps(embedder))
    epochs = epochs_of(n=2)
    assert np.array_equal(again.transform(epochs), embedder.transform(epochs))


def test_faulty_input_is_reported_in_one_line(model, tmp_path):
    epochs = epochs_of(n=2)
    with refusal(UserError, "21 V", action="1e-6"):
        Embedder(model, info=epochs.info).transform(epochs.get_data(copy=True) * 1e6)
    with refusal(UserError, "X", action="info="):
        Embedder(model).transform(epochs.get_data(copy=True))
    data = epochs.get_data(copy=True)
    data[1, 2, 5] = np.nan
    with refusal(UserError, "'F3'", action="interpolate"):
        Embedder(model, info=epochs.info).transform(data)
    with refusal(UserError, "9 channels", "has 10", action="info"):
        Embedder(model, info=epochs.info).transform(epochs.get_data(copy=True)[:, :9])
    unknown = mne.create_info(["X1", "X2"], 256.0, "eeg")
    with refusal(UserError, "2 (", action="montage="):
        Embedder(model, info=unknown).transform(np.zeros((1, 2, 512)))
    with refusal(UserError, "pooling", "'max'", action="mean, mean_std"):
        Embedder(model, pooling="max").transform(epochs)
    with pytest.raises(EmegError):
        Embedder.from_pretrained(tmp_path)


def test_the_name_at_the_top_is_the_same():
    assert emeg.Embedder is Embedder


@pytest.mark.parametrize(
    ("parameters", "container", "named", "action"),
    [
        ({"batch_size": 0}, None, "batch_size: 0", "1 or more"),
        ({"layers": (0, 9)}, None, "layers: there is no 9", "0 to 2"),
        ({"device": "tpu"}, None, "device: there is no 'tpu'", "auto, cpu"),
        ({"info": {"sfreq": 256.0}}, None, "info", "epochs.info"),
        ({"info": mne.create_info(["X1"], 256.0, "eeg")}, None, "channel among 1", "montage="),
        ({"unit": "µV"}, None, "unit", "uV"),
        ({"window_s": 0.0}, None, "window_s: 0.0", "more than 0"),
        ({"pooling": "max"}, None, "pooling", "mean, mean_std"),
        ({"pooling": "none"}, "pandas", "pooling", "mean or mean_std"),
    ],
)
def test_parameters_are_refused_by_name_when_fitting(model, parameters, container, named, action):
    embedder = Embedder(model, **parameters)
    if container is not None:
        embedder.set_output(transform=container)
    with refusal(UserError, named, action=action):
        embedder.fit(None)


def test_meg_in_another_unit_is_refused_with_its_own_factor(model):
    """The advice to set the unit belongs to EEG alone."""
    info = mne.create_info(["MEG 0111", "MEG 0121"], 256.0, "mag")
    for k, channel in enumerate(info["chs"]):
        channel["loc"] = np.array([0.05 * (-1) ** k, 0.02, 0.1, 1, 0, 0, 0, 1, 0, 0, 0, 1.0])
        channel["coil_type"] = 3024
    tesla = 1e-12 * np.random.default_rng(0).standard_normal((2, 2, 1024))
    assert Embedder(model, info=info).transform(tesla).shape[0] == 2
    with refusal(UserError, "magnetometers", "T", action="1e-15") as refused:
        Embedder(model, info=info, unit="uV").transform(1e15 * tesla)
    assert "unit=" not in str(refused.value)


def test_features_that_are_no_row_have_no_names(model):
    with refusal(UserError, "pooling", "'none'", action="mean"):
        Embedder(model, pooling="none").get_feature_names_out()


@pytest.mark.parametrize("n_samples", [1, 20, 63])
def test_windows_that_would_be_little_but_padding_are_refused(model, n_samples):
    data = 1e-5 * np.random.default_rng(0).standard_normal((2, 10, n_samples))
    with refusal(UserError, "X", "0.25 s", action="longer windows"):
        Embedder(model, info=eeg_info(256.0)).transform(data)
    raw = mne.io.RawArray(brain_like(10, 2560, 256.0, 0), eeg_info(256.0), verbose="ERROR")
    with refusal(UserError, "window_s", "0.25 s", action="longer windows"):
        Embedder(model, window_s=n_samples / 256).transform(raw)


def test_padding_of_short_windows_is_told(model, caplog):
    Embedder(model).transform(epochs_of(n=1, seconds=1.0))
    assert "X: windows of 1 s are padded with zeros to the 2 s" in caplog.text
    caplog.clear()
    Embedder(model).transform(epochs_of(n=1, seconds=2.0))
    assert not caplog.text


def test_depth_electrodes_are_usable_where_their_montage_is_in_mni_coordinates():
    rng = np.random.default_rng(0)
    raw = mne.io.RawArray(3e-5 * rng.standard_normal((4, 1024)), mne.create_info(4, 256.0, "seeg"), verbose="error")
    positions = {str(i): (-0.03 - 0.004 * i, -0.01, -0.02) for i in range(4)}
    raw.set_montage(mne.channels.make_dig_montage(positions, coord_frame="head"), verbose="error")
    with refusal(UserError, "MNI", action="set a montage"):
        usable_sensors(raw.info)
    raw.set_montage(mne.channels.make_dig_montage(positions, coord_frame="mni_tal"), verbose="error")
    sensors = usable_sensors(raw.info).sensors
    np.testing.assert_allclose(sensors.positions, list(positions.values()), atol=1e-7)
    assert sensors.modality == "ieeg"
