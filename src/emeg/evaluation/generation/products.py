"""Files of a generation.

``evaluations/<evaluation>/``
    ``figures.json``  `GenerationSummary`
    ``arrays.npz``    ``spectra/freqs`` (Hz) and ``spectra/<source>`` (dB, mean over channels and recordings);
                      ``continuations/<k>`` float32 (channels, samples) of recording k, the first draw, in V, T or T/m;
                      ``examples/<k>/signal`` and ``examples/<k>/continuation``
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from emeg.config import Config
from emeg.errors import UserError
from emeg.evaluation.comparisons import LEVEL, MIN_SUBJECTS, N_RESAMPLES, interval
from emeg.evaluation.generation.distances import CLOSE_DB
from emeg.store import Store

Source = Literal["model", "linear_model", "linear_other", "prompt", "elsewhere", "target_swap", "prompt_swap"]
"""What is compared with the recorded continuation: the network's continuation; that of the linear model fitted to the
prompt; that of a linear model fitted to the prompt of another recording, of another subject if any; the prompt
itself and another stretch of the same recording (real against real); the network's continuation of another recording's
prompt (prompt swap). In the target swap, the network's continuation is compared with the recorded continuation of
another recording."""

TITLES: dict[Source, str] = {
    "model": "network",
    "linear_model": "linear model",
    "linear_other": "linear model of another subject",
    "prompt": "the prompt itself",
    "elsewhere": "the recording elsewhere",
    "target_swap": "network, against another recording",
    "prompt_swap": "network, with another recording's prompt",
}
"""Sources for readers."""


class SourceScore(Config):
    """One metric of one source at one length of the prompt."""

    source: Source
    """What was compared with the recorded continuation."""
    context_s: float
    """Length of the prompt, s."""
    metric: str
    """Name of the metric; see `emeg.evaluation.generation.distances.compare_signals`."""
    mean: float
    """Mean over subjects, of the means over their recordings."""
    low: float | None
    """Lower end of the 95 % bootstrap interval over subjects; None for fewer than 5."""
    high: float | None
    """Upper end of the interval."""
    n_recordings: int
    """Number of recordings."""
    by_subject: dict[str, float] = Field(default_factory=dict)
    """Mean over the recordings of each subject."""


class PooledSpectrum(Config):
    """Spectrum averaged over channels, recordings and subjects, against the recorded one."""

    source: Source
    """Source of the signals."""
    mean_db: float
    """Mean absolute difference of power over 1 to 45 Hz, dB."""
    low_db: float | None = None
    """Lower end of the 95 % bootstrap interval of the mean, over subjects; None for fewer than 5."""
    high_db: float | None = None
    """Upper end of the interval."""
    largest_db: float
    """Largest absolute difference, dB."""
    within_1_db: float
    """Share of the frequencies with a difference up to 1 dB."""


class GenerationSummary(Config):
    """``figures.json`` of a generation."""

    kind: Literal["generation"] = "generation"
    """Kind of evaluation."""
    version: str
    """Version of emeg."""
    recordings: tuple[str, ...]
    """Recordings that were continued."""
    subjects: tuple[str, ...]
    """Subject of each of them."""
    devices: tuple[str, ...]
    """Device of each of them."""
    sfreq: float
    """Sampling rate, Hz."""
    prompt_s: float
    """Length of the main prompt, s."""
    continuation_s: float
    """Length of the continuation, s."""
    pooled: tuple[PooledSpectrum, ...]
    """Spectra averaged over recordings, at the main prompt."""
    scores: tuple[SourceScore, ...]
    """All metrics."""
    examples: tuple[dict[str, Any], ...]
    """Recording, subject and channels of each example."""
    provenance: dict[str, Any]
    """Model, tokenizer, tokens, corpus, configuration."""

    def scores_of(self, source: Source, context_s: float) -> dict[str, SourceScore]:
        """Return the scores of a source at one length of the prompt by metric."""
        return {one.metric: one for one in self.scores if (one.source, one.context_s) == (source, context_s)}


def score_of(source: Source, context_s: float, metric: str, values: Mapping[str, Sequence[float]]) -> SourceScore:
    """Average the values of each subject's recordings, and these over subjects, with an interval over subjects."""
    by_subject = {subject: sum(own) / len(own) for subject, own in values.items()}
    found = interval(list(by_subject.values()))
    return SourceScore(
        source=source,
        context_s=context_s,
        metric=metric,
        mean=sum(by_subject.values()) / len(by_subject),
        low=None if found is None else found.low,
        high=None if found is None else found.high,
        n_recordings=sum(map(len, values.values())),
        by_subject=by_subject,
    )


def pooled_spectrum(source: Source, made_db: NDArray[np.float64], real_db: NDArray[np.float64]) -> PooledSpectrum:
    """Compare the mean spectra of two sources, with a bootstrap interval over subjects.

    Parameters
    ----------
    source : str
        Source of `made_db`.
    made_db, real_db : float64, shape (subjects, frequencies)
        Power density, dB, averaged over channels and recordings.
    """
    difference = made_db - real_db
    mean = np.abs(difference.mean(axis=0))
    low = high = None
    if len(difference) >= MIN_SUBJECTS:
        drawn = np.random.default_rng(0).integers(len(difference), size=(N_RESAMPLES, len(difference)))
        means = np.abs(difference[drawn].mean(axis=1)).mean(axis=1)
        low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return PooledSpectrum(
        source=source,
        mean_db=float(mean.mean()),
        low_db=low,
        high_db=high,
        largest_db=float(mean.max()),
        within_1_db=float((mean <= CLOSE_DB).mean()),
    )


def read_generation(store: Store, evaluation: str) -> GenerationSummary:
    """Read ``figures.json`` of a generation.

    Raises
    ------
    UserError
        The evaluation is of another kind.
    """
    fields = store.read_json("evaluations", evaluation, "figures.json")
    if fields.get("kind") != "generation":
        raise UserError(f"evaluation {evaluation}: it is no generation; choose one that `emeg generate` made")
    return GenerationSummary.checked(fields, source=f"evaluation {evaluation}")
