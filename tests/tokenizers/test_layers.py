"""Norms of both networks; functions of a sensor: harmonics of its direction, its orientation and its type."""

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y
from torch import nn

from emeg.tokenizers.braintokenizer import BrainTokenizer
from emeg.tokenizers.braintokenizer.layers import RMSNorm, SensorHarmonics, n_sensor_functions


def sensors(n: int = 400, seed: int = 0):
    """Return sensors at random directions and distances, with orientations of length 1."""
    generator = torch.Generator().manual_seed(seed)
    pos = torch.randn(1, n, 6, generator=generator)
    pos[..., 3:] = torch.nn.functional.normalize(pos[..., 3:], dim=-1)
    return pos, torch.randint(3, (1, n), generator=generator)


@pytest.mark.parametrize("degree", [1, 2, 5])
def test_they_span_the_spherical_harmonics_of_scipy(degree):
    pos, _ = sensors()
    found = SensorHarmonics(degree)(pos, torch.zeros(1, 400, dtype=torch.long))[0].double().numpy()
    assert found.shape == (400, n_sensor_functions(degree))
    plain = found[:, : 4 * (degree + 1) ** 2].reshape(400, -1, 4)[..., 0]
    x, y, z = torch.nn.functional.normalize(pos[0, :, :3], dim=-1).double().numpy().T
    theta, phi = np.arccos(z), np.arctan2(y, x)
    wanted = np.stack(
        [
            getattr(sph_harm_y(n, abs(m), theta, phi), "real" if m >= 0 else "imag")
            for n in range(degree + 1)
            for m in range(-n, n + 1)
        ],
        axis=1,
    )
    assert wanted.shape == plain.shape
    for one, other in ((wanted, plain), (plain, wanted)):
        fitted = other @ np.linalg.lstsq(other, one, rcond=None)[0]
        np.testing.assert_allclose(fitted, one, atol=1e-4)


def test_each_type_has_functions_of_its_own_and_orientation_enters_linearly():
    pos, types = sensors()
    found = SensorHarmonics(2)(pos, types)[0].unflatten(-1, (3, 9, 4))
    for code in range(3):
        assert not found[types[0] != code][:, code].any()
    own = found[torch.arange(400), types[0]]
    torch.testing.assert_close(own[..., 1:], own[..., :1] * pos[0, :, None, 3:])


def test_the_gain_changes_with_the_sign_of_a_coil(tiny_config):
    torch.manual_seed(0)
    config = tiny_config.model_copy(update={"signed_weights": True, "gain_harmonics": 2})
    model = BrainTokenizer(config).eval()
    gain = model.encoder.signed_gain
    torch.nn.init.zeros_(gain.sensor.weight)
    torch.nn.init.zeros_(gain.harmonics.weight[:, ::4])  # what does not depend on the orientation
    pos, types = sensors(6)
    flipped = torch.cat([pos[..., :3], -pos[..., 3:]], dim=-1)
    x = torch.randn(1, 6, 128)
    one, other = (gain(model._prepare(x, p, types, None)[1]) for p in (pos, flipped))
    torch.testing.assert_close(one, -other)
    assert float(one.detach().abs().max()) > 0.1


def test_it_learns_in_encoder_and_decoder_and_is_absent_by_default(tiny_config):
    assert not any("harmonics" in name for name in BrainTokenizer(tiny_config).state_dict())
    torch.manual_seed(0)
    model = BrainTokenizer(tiny_config.model_copy(update={"signed_weights": True, "gain_harmonics": 3})).train()
    x, (pos, types) = torch.randn(1, 6, 512), sensors(6)
    model.training_loss(x, pos, types, generator=torch.Generator().manual_seed(0)).total.backward()
    for part in (model.encoder, model.decoder):
        assert float(part.signed_gain.harmonics.weight.grad.abs().sum()) > 0


def test_a_norm_keeps_the_precision_of_its_input_and_sums_squares_in_float32():
    norm, plain = RMSNorm(64, eps=1e-6), nn.RMSNorm(64, eps=1e-6)
    x = 300 * torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(norm(x), plain(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = norm(x.bfloat16())
        assert norm(x).dtype == torch.float32
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), plain(x.bfloat16().float()), rtol=8e-3, atol=8e-3)
    found.float().square().sum().backward()
    assert norm.weight.grad is not None
    assert norm.weight.grad.dtype == torch.float32
