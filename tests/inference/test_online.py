"""A stream is encoded correctly for any packet sizes, and with lost, late and repeated packets."""

import numpy as np
import pytest
import torch
from tests.inference.conftest import brain_like, eeg_info
from tests.messages import refusal

from emeg.errors import UserError
from emeg.inference import OnlineConfig, OnlineEncoder
from emeg.inference.causal import CausalFilter, causal_sections
from emeg.models import BrainOmni, Sources, load_encoder
from emeg.sensors import sensors_from_info
from emeg.tokenizers.braintokenizer import normalise_signal
from emeg.tokenizers.interface import Tokens

SECONDS = 12


@pytest.fixture(scope="module")
def network(model):
    return BrainOmni.from_pretrained(model)


@pytest.fixture(scope="module")
def stream():
    return brain_like(10, SECONDS * 256, 256.0)


def encode(network, packets, info=None, **config):
    encoder = OnlineEncoder(network, info or eeg_info(256.0), OnlineConfig(**config))
    windows = []
    for first, packet in packets:
        windows += encoder.push(packet, first_sample=first)
    return windows, encoder


def packets_of(stream, size=32):
    return [(a, stream[:, a : a + size]) for a in range(0, stream.shape[1], size)]


def test_codes_and_embeddings_are_those_of_the_filtered_signal_so_far(network, stream):
    """With a scale over all samples so far, the last window has the offline code of the causally filtered stream."""
    windows, _ = encode(network, packets_of(stream), normalise_s=60.0, context_s=60.0)
    n = 1 + (SECONDS * 256 - 512) // 384
    assert [w.start_s for w in windows] == [1.5 * i for i in range(n)]
    info = eeg_info(256.0)
    end = round(windows[-1].end_s * 256)
    filtered = CausalFilter(causal_sections(256.0, 0.0)).push(stream).astype(np.float32)[:, :end]
    types = torch.zeros(1, 10, dtype=torch.int64)
    pos = torch.from_numpy(sensors_from_info(info).sensors.model_positions())[None]
    x = normalise_signal(torch.from_numpy(filtered)[None], types)
    offline = network.tokenizer.tokenize(x[..., -512:], pos, types)
    assert np.array_equal(windows[-1].codes, offline.codes[0].numpy())
    features = [torch.from_numpy(w.codes)[None] for w in windows]
    with torch.no_grad():
        whole = network.embed_latents(network.tokenizer.features_from_codes(torch.cat(features, dim=2)))
    np.testing.assert_allclose(windows[-1].embedding, whole[0, :, -8:].numpy(), atol=1e-5)


@pytest.mark.parametrize("size", [1, 7, 100, 3000])
def test_the_size_of_packets_does_not_matter(network, stream, size):
    if size == 1:
        stream = stream[:, : 3 * 256]
    expected, _ = encode(network, packets_of(stream, 64), embed=False)
    found, _ = encode(network, packets_of(stream, size), embed=False)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert np.array_equal(a.codes, b.codes)


def test_late_and_repeated_packets_change_nothing(network, stream):
    expected, _ = encode(network, packets_of(stream), embed=False)
    packets = packets_of(stream)
    packets[10], packets[11] = packets[11], packets[10]
    packets.insert(20, packets[19])
    found, encoder = encode(network, packets, embed=False, patience_s=0.3)
    assert encoder.counts.late == 1
    assert encoder.counts.repeated == 1
    assert encoder.counts.bridged_samples == 0
    assert [w.start_s for w in found] == [w.start_s for w in expected]
    assert all(np.array_equal(a.codes, b.codes) for a, b in zip(found, expected, strict=True))


def test_a_lost_packet_touches_only_the_windows_it_lies_in(network, stream):
    packets = [p for p in packets_of(stream) if p[0] != 1024]  # 4.0 to 4.125 s
    found, encoder = encode(network, packets, embed=False)
    expected, _ = encode(network, packets_of(stream), embed=False)
    assert encoder.counts.gaps == 1
    assert len(found) == len(expected)
    touched = [w.start_s for w in found if w.bridged_share > 0]
    assert touched == [3.0]
    before = [w for w in found if w.end_s <= 4.0]
    assert before
    for a, b in zip(before, expected, strict=False):
        assert np.array_equal(a.codes, b.codes)


def test_windows_with_too_much_lost_are_left_out_and_the_stream_continues(network, stream):
    packets = [p for p in packets_of(stream) if not 4.0 <= p[0] / 256 < 5.0]
    found, _ = encode(network, packets)
    starts = [w.start_s for w in found]
    assert 3.0 not in starts
    assert 6.0 in starts
    assert all(np.isfinite(w.embedding).all() for w in found)


@pytest.mark.parametrize("value", [np.nan, 3e-5])
def test_a_channel_that_drops_out_is_left_out_while_it_is_gone(network, stream, value):
    broken = stream.copy()
    broken[4, 4 * 256 : 9 * 256] = value
    found, _ = encode(network, packets_of(broken))
    used = {w.start_s: w.channels[4] for w in found}
    assert used[0.0]
    assert not used[4.5]
    assert not used[6.0]
    assert used[9.0]
    assert all(w.channels[[0, 1, 2, 3, 5, 6, 7, 8, 9]].all() for w in found)
    assert all(np.isfinite(w.embedding).all() for w in found)


def test_other_rates_wait_for_their_lookahead_only(network):
    stream = brain_like(10, 1000 * 4, 1000.0)
    encoder = OnlineEncoder(network, eeg_info(1000.0), OnlineConfig(embed=False))
    ready = []
    for a in range(0, 4000, 10):
        ready += [(a + 10, w) for w in encoder.push(stream[:, a : a + 10], first_sample=a)]
    assert [w.end_s for _, w in ready] == [2.0, 3.5]
    for came, window in ready:
        assert came / 1000 <= window.end_s + encoder.lookahead_s + 0.011
    assert encoder.lookahead_s == 0.008


def test_what_is_kept_stays_bounded(network):
    stream = brain_like(10, 60 * 256, 256.0)
    _, encoder = encode(network, packets_of(stream, 256), embed=False, normalise_s=4.0)
    assert encoder._kept.shape[1] <= 4 * 256 + 512 + 256
    assert encoder._raw._bridged.size <= 4 * 512


def test_faulty_streams_are_refused(network):
    with refusal(UserError, "50 Hz", action="64 Hz"):
        OnlineEncoder(network, eeg_info(50.0))
    with refusal(UserError, "packet", "(3, 10)", action="(10, samples)"):
        OnlineEncoder(network, eeg_info(256.0)).push(np.zeros((3, 10)))


def test_every_registered_encoder_reads_a_stream(other_encoder, stream):
    """The first window has no context, so that its embedding is that of its tokens alone."""
    encoder = OnlineEncoder.from_pretrained(other_encoder, eeg_info(256.0))
    windows = [window for first, packet in packets_of(stream, 512) for window in encoder.push(packet)]
    network = load_encoder(other_encoder)
    codes = torch.from_numpy(windows[0].codes)[None]
    sources = None
    if network.tokenizer.sizes.n_sources is None:
        types = torch.zeros(1, 10, dtype=torch.int64)
        pos = torch.from_numpy(sensors_from_info(eeg_info(256.0)).sensors.model_positions())[None]
        sources = Sources(pos, types, torch.ones_like(types, dtype=torch.bool))
    with torch.no_grad():
        tokens = Tokens(network.tokenizer.features_from_codes(codes), codes)
        expected = network.embed_tokens(tokens, sources)
    np.testing.assert_allclose(windows[0].embedding, expected[0].numpy(), atol=1e-6)
    assert len(windows) > 3
