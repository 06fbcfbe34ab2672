import numpy as np
import pytest
import torch
from tests.messages import refusal

from emeg.errors import UserError
from emeg.evaluation.probes import token_agreement
from emeg.evaluation.probes.device_tokens import DeviceWindows
from emeg.models import BrainOmni, BrainOmniConfig
from emeg.sensors import Sensors
from emeg.tokenizers.braintokenizer import BrainTokenizerConfig

SIZES = BrainTokenizerConfig(n_filters=2, n_dim=16, n_neuro=4, n_head=2, codebook_dim=16, codebook_size=16)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return BrainOmni(BrainOmniConfig(lm_dim=16, lm_head=2, lm_depth=2), SIZES).eval()


def device(name, signal, seed):
    directions = np.random.default_rng(seed).normal(size=(signal.shape[1], 3))
    n = signal.shape[1]
    sensors = Sensors(
        names=tuple(f"E{k}" for k in range(n)),
        types=np.zeros(n, np.int8),
        units=("V",) * n,
        positions=0.09 * directions / np.linalg.norm(directions, axis=1, keepdims=True),
        orientations=np.zeros((n, 3)),
        coils=np.ones(n, np.int32),
    )
    return DeviceWindows(name, signal.astype(np.float32), sensors)


def test_one_device_agrees_with_itself_and_with_nothing_shifted(network):
    signal = 1e-5 * np.random.default_rng(0).normal(size=(6, 5, 512))
    found = token_agreement(network, device("x", signal, 0), device("x", signal, 0))
    assert found.agreement == pytest.approx((1.0,) * len(found.agreement))
    assert found.latent_cosine == pytest.approx(1.0, abs=1e-5)
    assert max(found.shifted) < 1.0
    assert max(found.chance) < 1.0
    assert found.devices == ("x", "x")


def test_devices_that_saw_different_things_do_not_agree(network):
    generator = np.random.default_rng(0)
    one, other = (1e-5 * generator.normal(size=(6, n, 512)) for n in (5, 7))
    found = token_agreement(network, device("x", one, 0), device("y", other, 1))
    assert abs(found.latent_cosine) < 0.5
    assert np.array(found.agreement) == pytest.approx(np.array(found.shifted), abs=0.25)


def test_other_stretches_of_time_are_refused(network):
    signal = np.zeros((6, 5, 512))
    with refusal(UserError, "devices x and y", "(6, 512)", "(5, 512)", action="windows"):
        token_agreement(network, device("x", signal, 0), device("y", signal[:5], 1))
