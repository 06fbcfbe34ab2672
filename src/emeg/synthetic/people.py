"""Draw simulated subjects: head, rhythms and blink rate."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from emeg.synthetic.randomness import generator

HEAD_CENTRE_M = (0.0, 0.0, 0.04)
"""Centre of the spherical head in head coordinates: the usual fit to adult heads."""


@dataclass(frozen=True)
class Person:
    """One simulated subject.

    Attributes
    ----------
    label : str
        BIDS label without ``sub-``.
    head_radius : float
        Metres.
    skull_conductivity : float
        S/m; uncertain by a factor of two between people, and EEG scales with it.
    alpha_hz, theta_hz, mu_left_hz, mu_right_hz : float
        Centre frequencies. Left and right: hemispheres.
    exponent : float
        Of the 1/f background's power spectrum.
    alpha_gain, mu_gain, background_gain : float
        Factors on the sources' moments.
    contralateral_drop, ipsilateral_drop : float
        Share of mu power lost during imagery of the other, of the same side's hand.
    blinks_per_minute : float
    """

    label: str
    group: Literal["control", "slowed"]
    age: int
    sex: Literal["F", "M"]
    head_radius: float
    skull_conductivity: float
    alpha_hz: float
    theta_hz: float
    mu_left_hz: float
    mu_right_hz: float
    exponent: float
    alpha_gain: float
    mu_gain: float
    background_gain: float
    contralateral_drop: float
    ipsilateral_drop: float
    blinks_per_minute: float


def draw_person(index: int, *, n_subjects: int, seed: int) -> Person:
    """Draw subject number `index`, from 0; `n_subjects` sets only the width of the label."""
    label = f"{index + 1:0{max(2, len(str(n_subjects)))}d}"
    rng = generator(seed, label, "person")
    slowed = index % 2 == 1
    alpha = rng.normal(7.9, 0.35) if slowed else rng.normal(10.2, 0.45)
    mu = rng.normal(8.9, 0.35) if slowed else rng.normal(11.2, 0.5)
    return Person(
        label=label,
        group="slowed" if slowed else "control",
        age=int(rng.integers(50, 75)),
        sex="F" if rng.random() < 0.5 else "M",
        head_radius=float(np.clip(rng.normal(0.088, 0.0022), 0.083, 0.093)),
        skull_conductivity=float(0.006 * rng.lognormal(0.0, 0.25)),
        alpha_hz=float(alpha),
        theta_hz=float(rng.normal(5.0 if slowed else 6.0, 0.3)),
        mu_left_hz=float(mu + rng.normal(0.0, 0.25)),
        mu_right_hz=float(mu + rng.normal(0.0, 0.25)),
        exponent=float(rng.normal(1.9 if slowed else 1.7, 0.12)),
        alpha_gain=float(rng.lognormal(0.0, 0.3)),
        mu_gain=float(rng.lognormal(0.0, 0.3)),
        background_gain=float(rng.lognormal(0.0, 0.15)),
        contralateral_drop=float(rng.uniform(0.5, 0.8)),
        ipsilateral_drop=float(rng.uniform(0.0, 0.2)),
        blinks_per_minute=float(rng.uniform(6.0, 16.0)),
    )
