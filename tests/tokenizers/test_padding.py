"""A batch with padded channels gives the same results as its samples one by one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emeg.tokenizers.braintokenizer import BrainTokenizer, BrainTokenizerConfig, TokenizerDraws, normalise_signal

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


SIGNED = {"signed_weights": True, "gain_harmonics": 2}
LEADFIELD = {**SIGNED, "target": "signal", "leadfield": True}


@pytest.fixture(scope="module", params=[{}, SIGNED, LEADFIELD], ids=["plain", "signed, harmonics", "leadfield"])
def model(tiny_config, request):
    torch.manual_seed(1)
    return BrainTokenizer(tiny_config.model_copy(update=request.param)).eval()


@st.composite
def padded_batches(draw):
    """Samples with different channel counts, real channels at any positions, and arbitrary values in the padding."""
    counts = draw(st.lists(st.integers(2, 9), min_size=1, max_size=3))
    width = max(counts) + draw(st.integers(0, 3))
    n_samples = draw(st.sampled_from([90, 128, 300]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    x = torch.randn(len(counts), width, n_samples, generator=generator)
    pos = torch.randn(len(counts), width, 6, generator=generator)
    sensor_type = torch.randint(3, (len(counts), width), generator=generator)
    mask = torch.zeros(len(counts), width, dtype=torch.bool)
    for row, count in enumerate(counts):
        mask[row, torch.randperm(width, generator=generator)[:count]] = True
    x[~mask], pos[~mask], sensor_type[~mask] = torch.nan, torch.inf, 99
    return x, pos, sensor_type, mask


def alone(tensors, mask, row):
    return [tensor[row : row + 1, mask[row]] for tensor in tensors]


@settings(max_examples=12, deadline=None)
@given(batch=padded_batches(), overlap=st.sampled_from([0.0, 0.25, 0.5]))
def test_inference(model, batch, overlap):
    *given_batch, mask = batch
    tokens = model.tokenize(*given_batch, overlap=overlap, channel_mask=mask)
    latents = model.encode_latents(*given_batch, overlap=overlap, channel_mask=mask)
    rebuilt = model.reconstruct(*given_batch, channel_mask=mask)
    assert not rebuilt[~mask].any()
    for row in range(len(mask)):
        own = alone(given_batch, mask, row)
        features, codes = model.tokenize(*own, overlap=overlap)
        torch.testing.assert_close(latents[row : row + 1], model.encode_latents(*own, overlap=overlap), **CLOSE)
        # Latents differ in the last digits, so a vector halfway between two codes may fall to either.
        same = (codes == tokens.codes[row : row + 1]).all(dim=-1)
        assert same.float().mean() > 0.95
        torch.testing.assert_close(tokens.features[row : row + 1][same], features[same], **CLOSE)
        if same.all():
            torch.testing.assert_close(rebuilt[row, mask[row]], model.reconstruct(*own)[0], **CLOSE)


@settings(max_examples=12, deadline=None)
@given(batch=padded_batches(), ramp=st.sampled_from([0.0, 0.5, 1.0]))
def test_training_losses_are_the_samples_own_weighed_by_channels(model, batch, ramp):
    *given_batch, mask = batch
    windows = model.targets(given_batch[0]).shape[2]
    order = torch.stack([torch.randperm(mask.shape[1]) for _ in mask])
    noise = torch.randn(*mask.shape, windows, model.config.window_length)
    together = model.training_loss(*given_batch, mask, draws=TokenizerDraws(order, noise), loss_ramp=ramp, follow=False)
    expected = dict.fromkeys(("time", "pcc", "amplitude", "commitment"), 0.0)
    for row, own_mask in enumerate(mask):
        kept = order[row][own_mask[order[row]]]
        own_order = (own_mask.cumsum(0) - 1)[kept]
        draws = TokenizerDraws(own_order, noise[row : row + 1, own_mask])
        single = model.training_loss(*alone(given_batch, mask, row), draws=draws, loss_ramp=ramp, follow=False)
        for name in expected:
            # Latents are as many for every sample, channels are not.
            share = 1 / len(mask) if name == "commitment" else int(own_mask.sum()) / int(mask.sum())
            expected[name] += share * getattr(single, name).item()
    for name, value in expected.items():
        assert getattr(together, name).item() == pytest.approx(value, abs=2e-5), name
    terms = together
    total = ramp * (terms.time + terms.amplitude + 0.5 * terms.phase) + torch.exp(-terms.pcc) + terms.commitment
    torch.testing.assert_close(together.total, total)


def test_gradients_and_codebooks_see_no_padding(tiny_config):
    def step(pad):
        torch.manual_seed(3)
        network = BrainTokenizer(tiny_config).train()
        generator = torch.Generator().manual_seed(5)
        x, pos = (torch.randn(2, 7, n, generator=generator) for n in (256, 6))
        order, noise = torch.randperm(7, generator=generator), torch.randn(2, 7, 2, 128, generator=generator)
        sensor_type = torch.zeros(2, 7, dtype=torch.long)
        mask = None
        if pad:
            mask = torch.arange(7 + pad).expand(2, -1) < 7
            fill = torch.nn.functional.pad
            x, pos = fill(x, (0, 0, 0, pad), value=1e3), fill(pos, (0, 0, 0, pad), value=-4.0)
            sensor_type, noise = fill(sensor_type, (0, pad), value=2), fill(noise, (0, 0, 0, 0, 0, pad))
            order = torch.cat([torch.arange(7, 7 + pad), order])
        losses = network.training_loss(
            x, pos, sensor_type, mask, draws=TokenizerDraws(order, noise), generator=generator
        )
        losses.total.backward()
        return network, losses

    (plain, plain_losses), (padded, padded_losses) = step(0), step(4)
    torch.testing.assert_close(plain_losses.total, padded_losses.total, **CLOSE)
    for (name, one), (_, other) in zip(plain.named_parameters(), padded.named_parameters(), strict=True):
        if name == "encoder.k_proj.bias":  # a shift of all keys changes nothing: rounding error only
            continue
        scale = float(one.grad.abs().max()) + 1e-6
        torch.testing.assert_close(one.grad / scale, other.grad / scale, rtol=0, atol=2e-3, msg=name)
    torch.testing.assert_close(plain.quantizer.codebooks[0].cluster_size, padded.quantizer.codebooks[0].cluster_size)


@pytest.mark.parametrize(("real", "hidden"), [(1, 0), (2, 1), (4, 1), (8, 2), (19, 4)])
def test_hidden_channels_are_counted_from_the_real_ones(real, hidden):
    """Detected by replacing values with noise: with noise everywhere, only kept channels reach the encoder."""
    config = BrainTokenizerConfig(
        window_length=64,
        n_filters=2,
        ratios=(4, 2),
        n_dim=8,
        n_neuro=2,
        n_head=1,
        codebook_dim=8,
        codebook_size=4,
        num_quantizers=1,
    )
    network = BrainTokenizer(config).eval()
    seen = []
    network.encoder.register_forward_hook(lambda module, arguments, out: seen.append(arguments))
    mask = torch.arange(24).expand(1, -1) < real
    order = torch.arange(24).flip(0)
    network.training_loss(
        torch.randn(1, 24, 64),
        torch.randn(1, 24, 6),
        torch.zeros(1, 24, dtype=torch.long),
        mask,
        draws=TokenizerDraws(order, torch.zeros(1, 24, 1, 64)),
    )
    x, _, looked_at, _ = seen[0]
    assert x.shape[1] == real - hidden
    assert looked_at.all()


@settings(max_examples=15, deadline=None)
@given(batch=padded_batches())
def test_normalised_signals(batch):
    x, _, sensor_type, mask = batch
    units = torch.tensor([2e-5, 3e-13, 5e-12])
    scale = units[sensor_type.clamp(max=2)][..., None]
    together = normalise_signal(x * scale, sensor_type, mask)
    assert not together[~mask].any()
    for row in range(len(mask)):
        own = normalise_signal(*alone((x * scale, sensor_type), mask, row))
        torch.testing.assert_close(together[row : row + 1, mask[row]], own, **CLOSE)
        for code, floor in enumerate((1e-5, 1e-13, 1e-13)):
            of_type = mask[row] & (sensor_type[row] == code)
            if not of_type.any():
                continue
            signal = (x * scale)[row, of_type].double()
            signal = signal - signal.mean(dim=0)
            expected = signal / (signal.std(correction=0) + floor)
            torch.testing.assert_close(together[row, of_type].double(), expected, rtol=1e-4, atol=1e-5)
