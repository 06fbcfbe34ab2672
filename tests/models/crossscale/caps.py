"""Normalised positions of real caps and of a helmet."""

import mne
import numpy as np
import torch


def normalised(points):
    """Return positions as `Sensors` normalises them, without orientations, as a float32 tensor (channels, 6)."""
    centred = points - points.mean(axis=0)
    scaled = centred / np.sqrt((centred**2).sum(axis=1).mean())
    return torch.tensor(np.concatenate([scaled, np.zeros_like(scaled)], axis=1), dtype=torch.float32)


def cap(montage):
    """Return names and normalised positions of a montage of MNE: float32, shape (channels, 6)."""
    places = mne.channels.make_standard_montage(montage).get_positions()["ch_pos"]
    return list(places), normalised(np.array(list(places.values())))


def helmet(n, seed=0):
    """Return normalised positions of coils all over a helmet: float32, shape (channels, 6)."""
    directions = np.random.default_rng(seed).normal(size=(n, 3))
    directions[:, 2] = np.abs(directions[:, 2]) - 0.4
    return normalised(directions / np.linalg.norm(directions, axis=1, keepdims=True))
