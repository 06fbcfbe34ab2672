"""Options beyond the published network: targets, complex spectra, crossfaded windows, a projection for each level."""

import math

import pytest
import torch
from pydantic import ValidationError

from emeg.tokenizers.braintokenizer import PRESETS, BrainTokenizer
from emeg.tokenizers.braintokenizer.losses import spectral_distance
from emeg.tokenizers.braintokenizer.windows import cut_windows, join_windows


def signal(channels: int = 4, samples: int = 512, seed: int = 0):
    """Return a normalised signal with positions and types."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, channels, samples, generator=generator)
    return x, torch.randn(2, channels, 6, generator=generator), torch.zeros(2, channels, dtype=torch.long)


class Copying(torch.nn.Module):
    """Stand-in for encoder, quantizer and decoder that returns its input."""

    def __init__(self, model: BrainTokenizer) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []
        model.encoder.forward = self.encode  # type: ignore[method-assign]
        model.quantizer.encode = lambda latents: latents  # type: ignore[method-assign,assignment,return-value]
        model.quantizer.decode = lambda codes: codes  # type: ignore[method-assign,assignment,return-value]
        model.decoder.forward = lambda latents, *_: latents  # type: ignore[method-assign]

    def encode(self, x_BCWL, *_):
        self.seen.append(x_BCWL)
        return x_BCWL


@pytest.mark.parametrize("crossfade", [0, 16])
@pytest.mark.parametrize("samples", [90, 512, 600])
def test_a_lossless_network_reconstructs_the_signal_itself(tiny_config, crossfade, samples):
    config = tiny_config.model_copy(update={"equaliser": 0.75, "target": "signal", "crossfade": crossfade})
    model = BrainTokenizer(config)
    assert model.equaliser is not None
    model.equaliser.gain.copy_(torch.linspace(0.5, 4.0, 257).expand(3, -1))
    copying = Copying(model)
    x, pos, types = signal(samples=samples)
    out = model.reconstruct(x, pos, types)
    torch.testing.assert_close(out, model.targets(x), atol=1e-4, rtol=0)
    assert out.shape == (2, 4, max(1, samples // 128), 128)
    first_two = copying.seen[0]
    if crossfade and samples > 128:
        torch.testing.assert_close(first_two[:, :, 0, -crossfade:], first_two[:, :, 1, :crossfade])


def test_targets_keep_amplitude_and_offset(tiny_config):
    model = BrainTokenizer(tiny_config.model_copy(update={"target": "signal"}))
    x, _, _ = signal()
    x = x * torch.tensor([1.0, 2.0, 3.0, 4.0])[None, :, None] + 0.5
    assert torch.equal(model.targets(x), cut_windows(x, 128, 0.0))
    assert BrainTokenizer(tiny_config).targets(x).std(dim=-1).allclose(torch.ones(2, 4, 4), atol=1e-3)


def test_complex_spectra_have_no_preferred_phase():
    # the distance of two tones depends on their phase difference alone; with unwrapped angles it does not
    time = torch.arange(512) / 256.0

    def tone(phase: float) -> torch.Tensor:
        return torch.cos(2 * math.pi * 16.0 * time + phase)

    expected = float(spectral_distance(tone(0.0), tone(0.4)).mean())
    assert expected > 0.01
    for start in (1.0, 3.0, 5.0):
        assert float(spectral_distance(tone(start), tone(start + 0.4)).mean()) == pytest.approx(expected, rel=1e-3)


def test_the_complex_loss_learns_and_has_no_phase_term(tiny_config):
    torch.manual_seed(0)
    config = tiny_config.model_copy(update={"spectral_loss": "complex", "target": "signal"})
    model = BrainTokenizer(config).train()
    generator = torch.Generator().manual_seed(0)
    x, pos, types = signal()
    losses = model.training_loss(x, pos, types, generator=generator)
    assert float(losses.phase) == 0.0
    expected = losses.time + 2 * losses.amplitude + torch.exp(-losses.pcc) + losses.commitment
    torch.testing.assert_close(losses.total.detach(), expected)
    losses.total.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_windows_join_by_a_linear_fade():
    x = torch.stack([torch.zeros(8), torch.ones(8)])[None, None]
    joined = join_windows(x, 4)[0, 0]
    assert joined.tolist() == [0, 0, 0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1, 1, 1]


def test_options_that_do_not_fit_together_are_refused(tiny_config):
    for wrong in ({"equaliser": 0.5}, {"crossfade": 8}, {"target": "signal", "crossfade": 100}):
        with pytest.raises(ValidationError, match=next(name for name in wrong if name != "target")):
            type(tiny_config).model_validate({**tiny_config.model_dump(), **wrong})


def test_shared_samples_of_windows_count_in_the_rate(tiny_config):
    """Codes have 5 bits; windows of 128 samples that share 16 begin every 112 samples."""
    plain = tiny_config.model_copy(update={"target": "signal"})
    bits = plain.n_neuro * plain.num_quantizers * 5 * 256 / plain.samples_per_step
    assert plain.bits_per_second(256.0) == pytest.approx(bits)
    shared = plain.model_copy(update={"crossfade": 16})
    assert shared.bits_per_second(256.0) == pytest.approx(bits * 128 / 112)


def test_options_that_are_off_stay_out_of_product_names():
    assert "equaliser" not in PRESETS["paper"].product_fields()
    assert {"equaliser", "target", "spectral_loss"} <= PRESETS["emeg-nano"].product_fields().keys()
    assert "hidden_by" not in PRESETS["emeg-nano"].product_fields()


def test_projections_by_level_quantize_by_their_formula(tiny_config):
    torch.manual_seed(1)
    config = tiny_config.model_copy(update={"codebook_dim": 4, "projections": "level"})
    model = BrainTokenizer(config).eval()
    names = set(model.state_dict())
    assert {f"quantizer.layers.{n}.project_in.weight" for n in range(3)} <= names
    assert not any(name.startswith(("quantizer.project_in", "quantizer.project_out")) for name in names)
    latents = torch.nn.functional.normalize(torch.randn(5, 16), dim=-1)
    residual, total, codes = latents, torch.zeros(5, 16), []
    for level in model.quantizer.codebooks:
        inner = residual @ level.project_in.weight.T + level.project_in.bias
        code = torch.cdist(inner, level.embed).argmin(dim=1)
        back = level.embed[code] @ level.project_out.weight.T + level.project_out.bias
        residual, total = residual - back, total + back
        codes.append(code)
    assert torch.equal(model.quantizer.encode(latents), torch.stack(codes, dim=-1))
    torch.testing.assert_close(model.quantizer.decode(torch.stack(codes, dim=-1)), total)


def test_projections_by_level_learn(tiny_config):
    torch.manual_seed(0)
    model = BrainTokenizer(tiny_config.model_copy(update={"codebook_dim": 4, "projections": "level"})).train()
    model.training_loss(*signal(), generator=torch.Generator().manual_seed(0)).total.backward()
    for level in model.quantizer.codebooks:
        assert float(level.project_in.weight.grad.abs().sum()) > 0
        assert float(level.project_out.weight.grad.abs().sum()) > 0


def test_signed_weights_are_the_softmax_times_a_gain_of_sensor_and_source(tiny_config):
    torch.manual_seed(0)
    config = tiny_config.model_copy(update={"signed_weights": True, "n_head": 1})
    encoder = BrainTokenizer(config).encoder.eval()
    features, sensors = torch.randn(1, 6, 1, 1, 16), torch.randn(1, 6, 16)
    encoder.seanet_encoder.forward = lambda x: features.reshape(6, 1, 16)  # type: ignore[method-assign]
    out = encoder(torch.zeros(1, 6, 1, 128), sensors, None, None)
    own, sensor = features[0, :, 0, 0].detach().double(), sensors[0].double()
    weights = {name: value.detach().double() for name, value in encoder.state_dict().items()}

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    scores = weights["neuros"] @ linear("k_proj", own + sensor).T / 4.0
    gain = weights["signed_gain.source"] @ linear("signed_gain.sensor", sensor).T / 4.0
    assert bool((gain < 0).any())
    mixed = (scores.softmax(dim=1) * gain) @ linear("backwardsolution.v", own)
    torch.testing.assert_close(out[0, :, 0, 0].double(), linear("backwardsolution.proj", mixed), atol=1e-5, rtol=1e-4)


def test_signed_weights_are_absent_by_default(tiny_config):
    assert not any("signed_gain" in name for name in BrainTokenizer(tiny_config).state_dict())
    model = BrainTokenizer(tiny_config.model_copy(update={"signed_weights": True})).train()
    model.training_loss(*signal(), generator=torch.Generator().manual_seed(0)).total.backward()
    for part in (model.encoder, model.decoder):
        assert float(part.signed_gain.source.grad.abs().sum()) > 0
