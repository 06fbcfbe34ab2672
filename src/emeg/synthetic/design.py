"""Design of a run: its duration and its events."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Task = Literal["imagery", "tones", "rest"]

LEAD_IN_S = 2.0
"""Rest before the first event and after the last, s."""

TONE_S = 0.1


@dataclass(frozen=True)
class Cue:
    """One event of a run."""

    onset_s: float
    duration_s: float
    trial_type: Literal["left_imagery", "right_imagery", "tone"]

    @property
    def value(self) -> int:
        """Trigger code."""
        return {"left_imagery": 1, "right_imagery": 2, "tone": 3}[self.trial_type]


@dataclass(frozen=True)
class Design:
    """One run: a whole number of seconds (EDF's records), and its events in order."""

    task: Task
    duration_s: int
    cues: tuple[Cue, ...] = ()


def imagery_run(*, n_trials: int, imagery_s: float, rest_s: float, rng: np.random.Generator) -> Design:
    """Draw a run of left and right imagery in random order, half each, with rests of 0.7 to 1.3 times `rest_s`."""
    left = np.arange(n_trials) < (n_trials + int(rng.integers(2))) // 2
    cues, onset = [], LEAD_IN_S
    for is_left in rng.permutation(left):
        cues.append(Cue(round(onset, 3), imagery_s, "left_imagery" if is_left else "right_imagery"))
        onset += imagery_s + rest_s * rng.uniform(0.7, 1.3)
    return Design("imagery", math.ceil(onset + LEAD_IN_S), tuple(cues))


def short_run(task: Literal["tones", "rest"], *, duration_s: float, rng: np.random.Generator) -> Design:
    """Draw a short run: quiet rest, or a tone every 1.2 to 2 s."""
    duration = max(math.ceil(duration_s - 1e-9), 1)
    cues: list[Cue] = []
    onset = LEAD_IN_S
    while task == "tones" and onset < duration - LEAD_IN_S:
        cues.append(Cue(round(onset, 3), TONE_S, "tone"))
        onset += rng.uniform(1.2, 2.0)
    return Design(task, duration, tuple(cues))
