"""The verb ``generate``: continue recordings of unseen subjects, and compare with what was recorded."""

import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.data import Corpus
from emeg.errors import UserError
from emeg.evaluation.generation.configs import GenerateConfig, GenerateResult
from emeg.evaluation.generation.continuing import (
    average_reference,
    continue_with_linear_model,
    continue_with_network,
)
from emeg.evaluation.generation.distances import SPECTRUM_S, compare_signals, power_db
from emeg.evaluation.generation.products import (
    GenerationSummary,
    PooledSpectrum,
    Source,
    SourceScore,
    pooled_spectrum,
    read_generation,
    score_of,
)
from emeg.evaluation.generation.prompts import Stretch, choose_stretches
from emeg.evaluation.products import write_arrays
from emeg.evaluation.task import ancestry
from emeg.hashing import hash_json
from emeg.progress import Progress, silent
from emeg.store import Store, find_model, n_parameters
from emeg.training.threads import n_threads, torch_threads
from emeg.uri import locate
from emeg.version import __version__

logger = logging.getLogger(__name__)

EXAMPLE_CHANNELS = 6
"""Channels of an example."""


class Continued(NamedTuple):
    """A stretch and its continuations at one length of the prompt; (draws, channels, samples), V, T or T/m."""

    stretch: Stretch
    context_s: float
    model: NDArray[np.float64]
    linear_model: NDArray[np.float64]

    def prompt(self) -> NDArray[np.float64]:
        """Return the prompt with the average reference: (channels, samples), V, T or T/m."""
        n = round(self.context_s * self.stretch.sfreq)
        return average_reference(self.stretch.before[:, -n:], self.stretch.sensors.types)


def generate(config: GenerateConfig, *, progress: Progress = silent) -> GenerateResult:
    """Continue recordings of unseen subjects with a network and with a linear model, and judge both.

    Raises
    ------
    UserError
        A product is missing, the model does not predict the next token, or no recording is long enough.
    """
    store = Store.open(config.root)
    model = find_model(store, "encoder", config.model)
    made_from = ancestry(store, model)
    corpus = Corpus.open(store, config.corpus or made_from.corpus)
    fields = config.product_fields() | {"model": model, "corpus": corpus.name}
    name = hash_json({"kind": "generation", "version": __version__, "config": fields})
    done_before = store.has("evaluations", name)
    if not done_before:
        began = time.monotonic()
        with torch_threads(n_threads(n_parameters(store, model), config.threads)):
            summary, arrays = _judge(store, config, model, corpus, progress)
        provenance = summary.provenance | {"tokenizer": made_from.tokenizer, "tokens": made_from.tokens}
        summary = summary.model_copy(update={"provenance": provenance})
        with store.publishing("evaluations", name) as folder:
            write_arrays(folder / "arrays.npz", arrays)
            (locate(folder) / "figures.json").write_json(summary.model_dump(mode="json"))
        logger.info("generation %s in %.1f s", name, time.monotonic() - began)
    summary = read_generation(store, name)
    main = [one for one in summary.scores if one.context_s == summary.prompt_s]
    return GenerateResult(
        evaluation=name,
        model=model,
        n_recordings=len(summary.recordings),
        metrics={f"{one.source}/{one.metric}": one.mean for one in main},
        done_before=done_before,
    )


def _judge(
    store: Store, config: GenerateConfig, model: str, corpus: Corpus, progress: Progress
) -> tuple[GenerationSummary, dict[str, NDArray[Any]]]:
    from emeg.training.device import pick_device

    device = pick_device(config.device)
    network = _load_network(store, model, device)
    window = network.tokenizer.sizes.window_length
    main, n_after = (_whole_windows(s, corpus.sfreq, window) for s in (config.prompt_s, config.continuation_s))
    contexts = sorted({main, *(_whole_windows(s, corpus.sfreq, window) for s in config.contexts_s)})
    stretches = choose_stretches(
        store,
        corpus,
        n_recordings=config.recordings,
        contexts=contexts,
        n_after=n_after,
        seed=config.seed,
        split=config.split,
        datasets=config.datasets,
    )
    continued: list[Continued] = []
    jobs = [(stretch, n) for n in contexts for stretch in stretches if stretch.before.shape[1] >= n]
    for number, (stretch, n_prompt) in enumerate(jobs, 1):
        continued.append(_continue(network, stretch, n_prompt, n_after, config, device))
        progress(number, len(jobs), f"continue {stretch.recording} after {n_prompt / corpus.sfreq:g} s")
    prompt_s = main / corpus.sfreq
    at_main = [one for one in continued if one.context_s == prompt_s]
    if not at_main:
        raise UserError(
            f"prompt_s: no {config.split} recording has {prompt_s:g} s before the continuation; lower prompt_s"
        )
    pooled, spectra = _pool(at_main, corpus.sfreq)
    arrays: dict[str, NDArray[Any]] = {**spectra}
    arrays |= {f"continuations/{k}": one.model[0].astype(np.float32) for k, one in enumerate(at_main)}
    examples = []
    for k, one in enumerate(at_main[: config.examples]):
        example, found = _example(one)
        examples.append(example)
        arrays |= {f"examples/{k}/{name}": values for name, values in found.items()}
    summary = GenerationSummary(
        version=__version__,
        recordings=tuple(one.stretch.recording for one in at_main),
        subjects=tuple(one.stretch.subject for one in at_main),
        devices=tuple(_device_of(corpus, one.stretch.recording) for one in at_main),
        sfreq=corpus.sfreq,
        prompt_s=prompt_s,
        continuation_s=n_after / corpus.sfreq,
        pooled=pooled,
        scores=tuple(_scores(continued, corpus.sfreq, config)),
        examples=tuple(examples),
        provenance={
            "model": model,
            "corpus": corpus.name,
            "config": config.product_fields(),
            "notes": _notes(stretches, contexts, corpus.sfreq),
        },
    )
    return summary, arrays


def _load_network(store: Store, model: str, device: Any) -> Any:  # noqa: ANN401 - torch is not loaded here
    from emeg.models import load_encoder

    network: Any = load_encoder(store.local_copy("models", model)).to(device).eval()
    if not hasattr(network, "continue_codes"):
        raise UserError(
            f"model {model}: encoder {network.kind!r} cannot continue signals; choose one that was trained with the"
            " objective next_token, such as the recipe nexttoken-nano trains"
        )
    return network


def _whole_windows(seconds: float, sfreq: float, window: int) -> int:
    return -(-round(seconds * sfreq) // window) * window


def _continue(
    network: Any,  # noqa: ANN401 - any encoder that continues codes
    stretch: Stretch,
    n_prompt: int,
    n_after: int,
    config: GenerateConfig,
    device: Any,  # noqa: ANN401 - of torch, which is not loaded here
) -> Continued:
    seed = _seed_of(config.seed, stretch.recording)
    made = continue_with_network(
        network,
        stretch,
        n_prompt,
        n_after,
        temperature=config.temperature,
        top_p=config.top_p,
        seed=seed,
        device=device,
        hold_scale=config.hold_scale,
        n_draws=config.draws,
    )
    linear = continue_with_linear_model(
        stretch, n_prompt, n_after, order=config.ar_order, seed=seed, n_draws=config.draws
    )
    return Continued(stretch, n_prompt / stretch.sfreq, made, linear)


def _scores(continued: Sequence[Continued], sfreq: float, config: GenerateConfig) -> list[SourceScore]:
    """Compare every source with the recorded continuation, and average over subjects."""
    values: dict[tuple[Source, float, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in continued:
        types = one.stretch.sensors.types.astype(np.int64)
        real = average_reference(one.stretch.after, types)
        partner = _partner(one, continued)
        pairs: dict[Source, tuple[NDArray[np.float64], NDArray[np.float64]]] = {
            "model": (one.model, real),
            "linear_model": (one.linear_model, real),
            "prompt": (one.prompt(), real),
        }
        if one.stretch.elsewhere is not None:
            pairs["elsewhere"] = (average_reference(one.stretch.elsewhere, types), real)
        if partner is not None:
            pairs["target_swap"] = (one.model, average_reference(partner.stretch.after, types))
            pairs["prompt_swap"] = (partner.model, real)
            pairs["linear_other"] = (_continue_with_model_of(partner, one, config), real)
        for source, (made, target) in pairs.items():
            for metric, value in compare_signals(made, target, types, sfreq).items():
                values[source, one.context_s, metric][one.stretch.subject].append(value)
    return [score_of(source, context_s, metric, found) for (source, context_s, metric), found in values.items()]


def _partner(one: Continued, continued: Sequence[Continued]) -> Continued | None:
    """Return the next recording of the same sensors at the same length of the prompt, of another subject if any."""
    layout = one.stretch.sensors.layout_id
    peers = [o for o in continued if o.context_s == one.context_s and o.stretch.sensors.layout_id == layout]
    index = next(k for k, peer in enumerate(peers) if peer is one)
    following = peers[index + 1 :] + peers[:index]
    others = [peer for peer in following if peer.stretch.subject != one.stretch.subject]
    return next(iter(others or following), None)


def _continue_with_model_of(partner: Continued, one: Continued, config: GenerateConfig) -> NDArray[np.float64]:
    """Continue a prompt with the linear model of another one: (draws, channels, samples), V, T or T/m."""
    n_after = one.linear_model.shape[-1]
    n_prompt = round(one.context_s * one.stretch.sfreq)
    seed = _seed_of(config.seed, one.stretch.recording)
    return continue_with_linear_model(
        one.stretch,
        n_prompt,
        n_after,
        order=config.ar_order,
        seed=seed,
        n_draws=config.draws,
        fitted_to=partner.stretch,
    )


def _seed_of(seed: int, recording: str) -> int:
    """Return the seed of the draws for a recording."""
    return int(hash_json({"seed": seed, "recording": recording})[:8], 16)


def _pool(
    continued: Sequence[Continued], sfreq: float
) -> tuple[tuple[PooledSpectrum, ...], dict[str, NDArray[np.float64]]]:
    """Average spectra over channels, recordings and subjects, in dB."""
    rows: dict[str, dict[str, list[NDArray[np.float64]]]] = defaultdict(lambda: defaultdict(list))
    freqs: NDArray[np.float64] = np.zeros(0)
    has_elsewhere = all(one.stretch.elsewhere is not None for one in continued)
    for one in continued:
        types = one.stretch.sensors.types
        signals = {
            "real": average_reference(one.stretch.after, types),
            "model": one.model,
            "linear_model": one.linear_model,
        }
        if one.prompt().shape[1] >= round(SPECTRUM_S * sfreq):
            signals["prompt"] = one.prompt()  # a shorter one has other frequencies
        if has_elsewhere and one.stretch.elsewhere is not None:
            signals["elsewhere"] = average_reference(one.stretch.elsewhere, types)
        for name, signal in signals.items():
            freqs, decibels = power_db(signal, sfreq)
            rows[name][one.stretch.subject].append(decibels.mean(axis=0))
    spectra = {name: np.stack([np.mean(own, axis=0) for own in found.values()]) for name, found in rows.items()}
    sources: tuple[Source, ...] = ("model", "linear_model", "prompt", "elsewhere")
    pooled = tuple(pooled_spectrum(name, spectra[name], spectra["real"]) for name in sources if name in spectra)
    means = {f"spectra/{name}": found.mean(axis=0) for name, found in spectra.items()}
    return pooled, {"spectra/freqs": freqs} | means


def _example(one: Continued) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    sensors = one.stretch.sensors
    picks = np.unique(np.linspace(0, len(sensors) - 1, min(EXAMPLE_CHANNELS, len(sensors))).round().astype(int))
    real = average_reference(one.stretch.after, sensors.types)
    arrays = {"signal": real[picks].astype(np.float32), "continuation": one.model[0, picks].astype(np.float32)}
    about = {
        "recording": one.stretch.recording,
        "subject": one.stretch.subject,
        "channels": [sensors.names[index] for index in picks.tolist()],
    }
    return about, arrays


def _device_of(corpus: Corpus, recording: str) -> str:
    row = int(np.flatnonzero(corpus.column("recording") == recording)[0])
    return str(corpus.column("device")[row])


def _notes(stretches: Sequence[Stretch], contexts: Sequence[int], sfreq: float) -> list[str]:
    missing = {n: sum(stretch.before.shape[1] < n for stretch in stretches) for n in contexts}
    return [
        f"{n_missing} of {len(stretches)} recordings are too short for a prompt of {n / sfreq:g} s"
        for n, n_missing in missing.items()
        if n_missing
    ]
