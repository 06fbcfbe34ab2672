"""Measure the latency of tokens and embeddings in a stream, and how many codes equal the offline ones.

The stream has 64 channels at 1,000 Hz in packets of 10 ms, sent without pauses to one thread. Latency is the time
that `push` takes with the packet that completes a window, plus the time for which the encoder waits for later
samples. The offline comparison tokenises the same window from the whole signal, filtered with zero phase and
normalised as a whole.

The network is `tiny` on the paper's tokenizer with random weights, so its codes carry no meaning. To measure the
share of equal codes, give a trained BrainOmni with `--model FOLDER` and a recording that MNE reads with `--recording
FILE`.
"""

import argparse
import json
import time
from pathlib import Path

import mne
import numpy as np
import torch

from emeg.inference import OnlineConfig, OnlineEncoder
from emeg.inference.input_windows import windows_of
from emeg.metrics import code_agreement
from emeg.models import PRESETS, BrainOmni
from emeg.tokenizers.braintokenizer import PRESETS as TOKENIZERS
from emeg.tokenizers.braintokenizer import normalise_signal

CHANNELS, RATE, PACKET = 64, 1000.0, 10


def synthetic_raw(seconds: float) -> mne.io.RawArray:
    """Create pink noise of 20 µV at 64 electrodes of the 10-05 system."""
    montage = mne.channels.make_standard_montage("biosemi64")
    info = mne.create_info(montage.ch_names, RATE, "eeg")
    info.set_montage(montage)
    generator = np.random.default_rng(0)
    n = round(seconds * RATE)
    spectrum = np.fft.rfft(generator.normal(size=(CHANNELS, n))) / np.sqrt(np.maximum(np.fft.rfftfreq(n, 1 / RATE), 1))
    noise = np.fft.irfft(spectrum, n=n)
    return mne.io.RawArray(20e-6 * noise / noise.std(), info, verbose="ERROR")


def latencies(network: BrainOmni, raw: mne.io.BaseRaw, *, embed: bool) -> tuple[list[float], OnlineEncoder]:
    """Return milliseconds from a window's last sample to its result for all windows but the first, and the encoder."""
    encoder = OnlineEncoder(network, raw.info, OnlineConfig(embed=embed, threads=1))
    signal = raw.get_data()
    found = []
    for first in range(0, signal.shape[1], PACKET):
        began = time.perf_counter()
        windows = encoder.push(signal[:, first : first + PACKET], first_sample=first)
        took = time.perf_counter() - began
        if windows:
            found.append(1000.0 * (took + encoder.lookahead_s))
    return found[1:], encoder


def offline_ms(network: BrainOmni, n_windows: int) -> float:
    """Return the median time to tokenise one window of 2 s, in milliseconds."""
    x = torch.randn(1, CHANNELS, network.tokenizer.config.window_length)
    pos, types = torch.randn(1, CHANNELS, 6), torch.zeros(1, CHANNELS, dtype=torch.int64)
    took = []
    for _ in range(n_windows):
        began = time.perf_counter()
        network.tokenizer.tokenize(x, pos, types)
        took.append(1000.0 * (time.perf_counter() - began))
    return float(np.median(took))


def equal_codes(network: BrainOmni, raw: mne.io.BaseRaw) -> list[float]:
    """Return the share of a recording's codes that equal the offline codes, for each quantizer."""
    encoder = OnlineEncoder(network, raw.info, OnlineConfig(embed=False, mains_hz=float(raw.info["line_freq"] or 0.0)))
    online = encoder.push(raw.get_data())
    seconds = len(raw.times) / raw.info["sfreq"]
    whole = windows_of(raw, window_s=np.floor(seconds * 256) / 256)
    x = torch.from_numpy(np.ascontiguousarray(whole.signal[:1]))
    types = torch.from_numpy(whole.sensors.types.astype(np.int64))[None]
    pos = torch.from_numpy(whole.sensors.model_positions())[None]
    tokens = network.tokenizer.tokenize(
        normalise_signal(x, types), pos, types, overlap=network.config.overlap_ratio
    ).codes[0]
    steps = network.tokenizer.config.steps_per_window
    stride = round(network.tokenizer.config.window_length * (1 - network.config.overlap_ratio)) / 256
    pairs = [
        (window.codes, tokens[:, steps * i : steps * (i + 1)].numpy())
        for window in online
        if window.start_s >= 10.0 and tokens.shape[1] >= steps * ((i := round(window.start_s / stride)) + 1)
    ]
    return code_agreement(np.stack([a for a, _ in pairs]), np.stack([b for _, b in pairs])).round(4).tolist()


def main() -> None:
    """Measure, and print the result as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=155.0)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--recording", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = BrainOmni(PRESETS["tiny"], TOKENIZERS["paper"]).eval()
    raw = synthetic_raw(arguments.seconds)
    tokens, encoder = latencies(network, raw, embed=False)
    embeddings, _ = latencies(network, raw, embed=True)
    figures = {
        "median_ms": round(float(np.median(tokens)), 1),
        "p99_ms": round(float(np.percentile(tokens, 99)), 1),
        "embedding_median_ms": round(float(np.median(embeddings)), 1),
        "embedding_p99_ms": round(float(np.percentile(embeddings, 99)), 1),
        "offline_window_ms": round(offline_ms(network, 20), 1),
        "lookahead_ms": 1000.0 * encoder.lookahead_s,
        "n_windows": len(tokens),
        "channels": CHANNELS,
        "packet_ms": 1000.0 * PACKET / RATE,
        "threads": 1,
    }
    if arguments.model and arguments.recording:
        recording = mne.io.read_raw(arguments.recording, preload=True, verbose="ERROR")
        if recording.get_montage() is None:
            recording.set_montage("colin27_1005", on_missing="ignore", match_case=False)
        shares = equal_codes(BrainOmni.from_pretrained(arguments.model), recording)
        figures |= {f"equal_codes_{level}": share for level, share in enumerate(shares, 1)}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
