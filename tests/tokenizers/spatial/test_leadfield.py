"""The leadfield against closed forms, principal components, and sources that are known."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from emeg.tokenizers.braintokenizer import BrainTokenizer, BrainTokenizerConfig
from emeg.tokenizers.braintokenizer.layers import SensorHarmonics
from emeg.tokenizers.braintokenizer.quantization.interface import normalise_latents
from emeg.tokenizers.braintokenizer.spatial.leadfield import (
    NOISE_FLOOR,
    ForwardModel,
    InverseModel,
    Layout,
    fit_leadfield,
    minimum_norm,
    start_leadfield,
)

DEGREE, SOURCES, STEP, DIM = 2, 3, 8, 16


def sensors(n, seed, kind=0):
    generator = torch.Generator().manual_seed(seed)
    direction = torch.nn.functional.normalize(torch.randn(1, n, 3, generator=generator), dim=-1)
    orientation = torch.nn.functional.normalize(torch.randn(1, n, 3, generator=generator), dim=-1)
    pos = torch.cat([direction, orientation * (kind > 0)], dim=-1)
    return pos, torch.full((1, n), kind)


def functions(n, seed, kind=0):
    return SensorHarmonics(DEGREE)(*sensors(n, seed, kind))[0]


def simulated(weight, n, seed, kind=0, noise=0.1):
    """Return a layout whose signals are three known sources plus white noise."""
    functions_CK = functions(n, seed, kind)
    gain_CS = functions_CK.double() @ weight
    covariance = gain_CS @ gain_CS.T + noise**2 * torch.eye(n, dtype=torch.float64)
    return Layout(functions_CK, covariance, torch.full((n,), kind))


def left(layout, fit):
    """Return the share of the variance that a fitted leadfield leaves, computed with numpy."""
    gain = layout.functions.numpy().astype(float) @ fit.weight.numpy()
    noise = float(fit.log_noise.exp()) + NOISE_FLOOR
    kept = gain @ np.linalg.solve(gain.T @ gain + noise * np.eye(gain.shape[1]), gain.T)
    rest = np.eye(len(gain)) - kept
    covariance = layout.covariance.numpy()
    return float(np.mean(np.diag(rest @ covariance @ rest.T) / np.diag(covariance)))


def left_by_components(layout, n):
    covariance = layout.covariance.numpy()
    vectors = np.linalg.eigh(covariance)[1][:, -n:]
    rest = np.eye(len(covariance)) - vectors @ vectors.T
    return float(np.mean(np.diag(rest @ covariance @ rest.T) / np.diag(covariance)))


def test_sources_are_those_of_the_minimum_norm():
    """In its other form, Gᵀ (G Gᵀ + λ I)⁻¹, which has one equation for each sensor."""
    gain = torch.randn(2, 7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = minimum_norm(gain, torch.tensor(0.2, dtype=torch.float64))
    for one, inverse in zip(gain.numpy(), found.numpy(), strict=True):
        np.testing.assert_allclose(inverse, one.T @ np.linalg.inv(one @ one.T + 0.2 * np.eye(7)), atol=1e-12)


def test_hidden_channels_change_nothing():
    torch.manual_seed(0)
    inverse, found = InverseModel(functions(5, 0).shape[1], SOURCES, STEP, DIM), functions(5, 0)[None]
    x = torch.randn(1, 5, 1, 2 * STEP)
    seen = torch.tensor([[True, True, False, True, True]])
    alone = inverse(x[:, seen[0]], found[:, seen[0]], None)
    x[:, 2] = 1e6
    torch.testing.assert_close(inverse(x, found, seen), alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("amplitude", [0.01, 1.0, 30.0])
def test_latents_of_length_1_keep_the_amplitude(amplitude):
    """Signals that three sources explain come back whatever their scale, although latents are scaled to length 1."""
    torch.manual_seed(0)
    known = torch.randn(functions(12, 1).shape[1], SOURCES)
    inverse, forward = (model(len(known), SOURCES, STEP, DIM) for model in (InverseModel, ForwardModel))
    fit = fit_leadfield([simulated(known.double(), 12, seed, noise=1e-3) for seed in (1, 2)], SOURCES)
    start_leadfield(inverse, forward, fit._replace(log_noise=torch.tensor(-20.0)))
    for model in (inverse, forward):  # as large as the source's own, so that the noise floor is negligible
        model.weight.data *= 100
    found = functions(12, 1)[None]
    x = amplitude * torch.einsum("bcs,bswl->bcwl", found @ known, torch.randn(1, SOURCES, 1, 4 * STEP))
    with torch.no_grad():
        made = 100 * forward(normalise_latents(inverse(x / 100, found, None)), found)
    assert float((made - x).square().mean() / x.square().mean()) < 1e-3


def test_a_fit_leaves_what_principal_components_leave_also_for_new_sensors():
    known = torch.randn(
        functions(3, 0).shape[1], SOURCES, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )
    training = [simulated(known, 40, seed) for seed in (1, 2)]
    fit = fit_leadfield(training, SOURCES)
    for layout in [*training, simulated(known, 25, 7)]:
        assert left(layout, fit) < 1.1 * left_by_components(layout, SOURCES) + 1e-4


def test_sensor_types_that_no_layout_has_get_no_weight():
    known = torch.randn(
        functions(3, 0).shape[1], SOURCES, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )
    fit = fit_leadfield([simulated(known, 20, 1)], SOURCES)
    assert not (functions(9, 5, kind=1) @ fit.weight).any()
    assert (functions(9, 5, kind=0) @ fit.weight).any()


def test_more_sources_than_sensors_are_fitted():
    known = torch.randn(
        functions(3, 0).shape[1], SOURCES, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )
    fit = fit_leadfield([simulated(known, 4, 1)], 9)
    assert left(simulated(known, 4, 1), fit) < 0.05


def test_prepare_fits_the_leadfield_to_the_equalised_signal(tiny_config):
    """Before any step, the reconstruction from unquantized latents keeps the signal of known sources."""
    torch.manual_seed(0)
    config = leadfield_config(tiny_config, equaliser=0.75, n_neuro=4)
    pos, types = sensors(20, 0)
    weight = torch.randn(SensorHarmonics(2)(pos, types).shape[-1], 4)
    x = (SensorHarmonics(2)(pos, types)[0] @ weight @ torch.randn(4, 1024).cumsum(dim=-1))[None]
    x = x / x.std()
    model = BrainTokenizer(config).eval()
    model.prepare([(x, pos, types)])
    assert float(model.equaliser.gain.std()) > 0
    model.encoder.network_share = model.decoder.network_share = 0.0
    model.quantizer.encode, model.quantizer.decode = (lambda latents: latents), normalise_latents
    made, target = model.reconstruct(x, pos, types), model.targets(x)
    assert float((made - target).square().mean() / target.square().mean()) < 0.02


def test_it_learns_in_encoder_and_decoder_and_is_absent_by_default(tiny_config):
    assert not any("leadfield" in name for name in BrainTokenizer(tiny_config).state_dict())
    torch.manual_seed(0)
    model = BrainTokenizer(leadfield_config(tiny_config)).train()
    assert set(model.fitted) - {"equaliser.gain"} <= set(model.state_dict())
    pos, types = sensors(6, 0)
    model.training_loss(torch.randn(1, 6, 512), pos, types, generator=torch.Generator().manual_seed(0)).total.backward()
    for part in (model.encoder.leadfield, model.decoder.leadfield):
        for name, parameter in part.named_parameters():
            assert float(parameter.grad.abs().sum()) > 0, name


@pytest.mark.parametrize("changes", [{"gain_harmonics": 0, "signed_weights": False}, {"target": "window"}])
def test_what_it_needs_is_named(tiny_config, changes):
    given = leadfield_config(tiny_config).model_dump() | changes
    with pytest.raises(ValidationError, match="leadfield needs"):
        BrainTokenizerConfig(**given)


def leadfield_config(tiny_config, **changes):
    options = {
        "signed_weights": True,
        "gain_harmonics": 2,
        "target": "signal",
        "spectral_loss": "complex",
        "leadfield": True,
    }
    return BrainTokenizerConfig(**tiny_config.model_dump() | options | changes)
