"""Packets in any order are joined to the original samples."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.messages import refusal

from emeg.errors import UserError
from emeg.inference.packets import PacketOrder

SIGNAL = np.random.default_rng(0).normal(size=(3, 400))


def gather(order, packets):
    parts = [order.push(SIGNAL[:, a:b], a) for a, b in packets]
    return np.concatenate([p.signal for p in parts], axis=1), np.concatenate([p.bridged for p in parts])


@given(cuts=st.sets(st.integers(1, 399), max_size=30), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_late_and_repeated_packets_change_nothing(cuts, seed):
    """Neighbours swapped, packets sent twice, and enough waiting time: every sample comes once and in order."""
    edges = [0, *sorted(cuts), 400]
    packets = list(itertools.pairwise(edges))
    generator = np.random.default_rng(seed)
    for i in range(2, len(packets), 2):
        if generator.random() < 0.5:
            packets[i - 1], packets[i] = packets[i], packets[i - 1]
    sent = [p for packet in packets for p in [packet] * (1 + (generator.random() < 0.3))]
    signal, bridged = gather(PacketOrder(3, patience=400), sent)
    assert np.array_equal(signal, SIGNAL)
    assert not bridged.any()


def test_a_lost_packet_is_bridged_by_a_line():
    order = PacketOrder(3, patience=40)
    packets = [(a, a + 20) for a in range(0, 400, 20) if a != 100]
    signal, bridged = gather(order, packets)
    assert signal.shape[1] == 400
    assert np.flatnonzero(bridged).tolist() == list(range(100, 120))
    expected = np.interp(np.arange(100, 120), [99, 120], SIGNAL[0, [99, 120]])
    np.testing.assert_allclose(signal[0, 100:120], expected, rtol=1e-12)
    assert np.array_equal(signal[:, ~bridged], SIGNAL[:, ~bridged])
    assert (order.counts.gaps, order.counts.bridged_samples) == (1, 20)


def test_what_comes_after_its_gap_was_bridged_is_counted_and_dropped():
    order = PacketOrder(3, patience=20)
    signal, _ = gather(order, [(0, 20), (40, 60), (60, 80), (20, 40), (80, 100)])
    assert signal.shape[1] == 100
    assert order.counts.repeated == 1
    assert order.counts.gaps == 1


def test_packets_without_numbers_follow_each_other():
    order = PacketOrder(3, patience=0)
    parts = [order.push(SIGNAL[:, a : a + 50]).signal for a in range(0, 400, 50)]
    assert np.array_equal(np.concatenate(parts, axis=1), SIGNAL)


def test_another_number_of_channels_is_refused():
    with refusal(UserError, "packet", "(2, 5)", action="(3, samples)"):
        PacketOrder(3, patience=0).push(np.zeros((2, 5)))
