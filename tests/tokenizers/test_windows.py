"""Windows against a plain loop."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.messages import refusal

from emeg.errors import UserError
from emeg.tokenizers.braintokenizer.windows import count_windows, cut_windows


@given(n_samples=st.integers(1, 700), length=st.sampled_from([64, 100, 128]), overlap=st.sampled_from([0.0, 0.25, 0.5]))
def test_every_window_holds_the_samples_at_its_place(n_samples, length, overlap):
    signal = torch.arange(1.0, n_samples + 1)
    windows = cut_windows(signal.view(1, 1, -1), length, overlap)[0, 0]
    stride = int(length * (1 - overlap))
    assert windows.shape == (count_windows(n_samples, length, overlap), length)
    for number, window in enumerate(windows):
        own = signal[number * stride : number * stride + length]
        assert torch.equal(window[: len(own)], own)
        assert not window[len(own) :].any()
    if overlap > 0 or n_samples <= length:
        assert windows.max() == n_samples
    else:
        assert 0 <= n_samples - len(windows) * length < length


@pytest.mark.parametrize("overlap", [-0.1, 1.0, 0.9999])
def test_windows_that_would_not_move_on_are_refused(overlap):
    with refusal(UserError, "overlap", action="0 to below 1"):
        cut_windows(torch.zeros(1, 1, 200), 100, overlap)
