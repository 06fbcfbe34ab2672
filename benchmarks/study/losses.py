"""Compare what encoders lose in pretraining with what counts and linear models lose on the same tokens.

`python -m benchmarks.study.losses STORE [--models …] [--split held_out] [--segments 4]` prints, for each encoder of the
store that was pretrained there, the mean over subjects of the loss of each level and of all, that of each baseline, and
the difference to the best baseline with its bootstrap interval over subjects. At most so many segments of each subject
are used. The last line is one JSON object.

Baselines come from all training segments of the corpus: shares of single codes, of codes by source, and of pairs of
codes, with the code one step before and with the code of the level before. Their smoothing is chosen on the tested
tokens, in their favour. The code before is the true one even where the encoder does not see it. For tokens of single
samples there are the last sample and a linear prediction from 32 samples, both with normal innovations, and the linear
prediction that adapts to the recording, from which the encoder starts. For a causal encoder over latent sources there
is its own starting point, without its blocks and its output layer. For windows of power, where the loss is a mean
square in variances of the training segments: the mean of all windows, that of the source, the window before, and a
linear regression of each value on it.
"""

import argparse
import copy
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from emeg.data import Corpus, TokenSet
from emeg.evaluation.comparisons import interval
from emeg.models import BrainOmni, Sources, load_encoder
from emeg.models.causal.transformer import CausalTransformer
from emeg.models.draws import draw_pretraining_step
from emeg.models.encoder_module import EncoderModule, MaskedEncoder
from emeg.models.objectives.masked import mask_features
from emeg.store import Store

SMOOTHING = (2.0, 20.0, 200.0, 2000.0, 20000.0)
"""Codes that the shares of single codes count as, in shares of pairs."""
SOURCE_SMOOTHING = 64.0
TRAINING_SEGMENTS = 60
"""Training segments for the scale of differences and the regression of windows."""

Losses = dict[str, NDArray[np.float64]]
"""Loss by level of each predictor, for one segment."""


class Data(NamedTuple):
    """Tokens of a corpus."""

    codes: NDArray[np.int64]
    """(segments, sources, steps, levels)."""
    n_codes: int
    split: NDArray[np.str_]
    subject: NDArray[np.str_]
    channels: NDArray[np.int64] | None
    """Channels of each segment, if each channel is a source."""
    corpus: Corpus

    def segment(self, row: int) -> Tensor:
        """Return the codes of a segment: int64, shape (1, sources, steps, levels)."""
        codes = self.codes[row].astype(np.int64)
        return torch.from_numpy(codes if self.channels is None else codes[: self.channels[row]])[None]

    def training_rows(self) -> list[int]:
        """Return the training segments."""
        return np.flatnonzero(self.split == "train").tolist()

    def some_training_rows(self) -> list[int]:
        """Return some training segments, spread over the corpus."""
        rows = self.training_rows()
        return [rows[k] for k in np.unique(np.linspace(0, len(rows) - 1, TRAINING_SEGMENTS).astype(int))]


class Counts:
    """Shares of codes in all training segments."""

    def __init__(self, data: Data, n_levels: int) -> None:
        n_codes = data.n_codes
        self.is_by_source = data.channels is None
        n_sources = data.codes.shape[1] if self.is_by_source else 1
        single = np.zeros((n_sources, n_levels, n_codes))
        self.pairs = {kind: np.zeros((n_levels, n_codes, n_codes), np.float32) for kind in ("step", "level")}
        for row in data.training_rows():
            codes = data.segment(row)[0, ..., :n_levels].numpy()
            for level in range(n_levels):
                own = codes[..., level]
                for source in range(n_sources):
                    counted = own[source] if self.is_by_source else own
                    single[source, level] += np.bincount(counted.ravel(), minlength=n_codes)
                self._count("step", level, own[:, :-1], own[:, 1:])
                if level:
                    self._count("level", level, codes[..., level - 1], own)
        overall = single.sum(axis=0) + 0.5
        self.overall = overall / overall.sum(axis=-1, keepdims=True)
        shares = single + SOURCE_SMOOTHING * self.overall
        self.by_source = shares / shares.sum(axis=-1, keepdims=True)
        self._smoothed: dict[tuple[str, float], NDArray[np.float32]] = {}

    def _count(self, kind: str, level: int, before: NDArray[np.int64], code: NDArray[np.int64]) -> None:
        n_codes = self.pairs[kind].shape[1]
        flat = np.bincount((before * n_codes + code).ravel(), minlength=n_codes**2)
        self.pairs[kind][level] += flat.reshape(n_codes, n_codes)

    def losses(self, codes_STQ: NDArray[np.int64], is_counted_ST: NDArray[np.bool_]) -> Losses:
        """Return the loss of single codes and of pairs by level, over the counted tokens."""
        n_levels = self.overall.shape[0]
        at = np.nonzero(is_counted_ST)
        own = codes_STQ[at][:, :n_levels]
        levels = np.arange(n_levels)
        by_source = -np.log(self.by_source[at[0][:, None] if self.is_by_source else 0, levels, own])
        found = {"single codes": -np.log(self.overall[levels, own]).mean(axis=0)}
        if self.is_by_source:
            found["single codes by source"] = by_source.mean(axis=0)
        has_step = at[1] > 0
        for smoothing in SMOOTHING:
            before = codes_STQ[at[0], at[1] - 1][:, :n_levels]
            shares = self._shares("step", smoothing)[levels, before, own]
            lost = np.where(has_step[:, None], -np.log(shares), by_source)
            found[f"pairs, step before/{smoothing:g}"] = lost.mean(axis=0)
            if n_levels > 1:
                shares = self._shares("level", smoothing)[levels[1:], own[:, :-1], own[:, 1:]]
                lost = np.concatenate([by_source[:, :1], -np.log(shares)], axis=1)
                found[f"pairs, level before/{smoothing:g}"] = lost.mean(axis=0)
        return found

    def _shares(self, kind: str, smoothing: float) -> NDArray[np.float32]:
        if (kind, smoothing) not in self._smoothed:
            counts = self.pairs[kind] + np.float32(smoothing) * self.overall[:, None].astype(np.float32)
            self._smoothed[kind, smoothing] = counts / counts.sum(axis=-1, keepdims=True)
        return self._smoothed[kind, smoothing]


def masked_losses(network: MaskedEncoder, data: Data) -> Callable[[int], Losses]:
    """Return the losses of masked tokens; the draws are the same for all encoders with the same tokens."""
    counts = Counts(data, network.n_levels)

    def of_segment(row: int) -> Losses:
        codes = data.segment(row)
        features = network.tokenizer.features_from_codes(codes)
        draws = draw_pretraining_step(
            torch.Generator().manual_seed(row), shape=features.shape[:3], device=features.device
        )
        masked = draws.uniform_mask <= network.config.mask_ratio
        given = {} if data.channels is None else {"sources": sources_of(data, row)}
        hidden = network.hidden(mask_features(features, network.mask_token, masked, draws), **given)
        logits = network.predict_head(hidden[masked]).unflatten(-1, (network.n_levels, -1))
        lost = F.cross_entropy(logits.transpose(1, 2), codes[..., : network.n_levels][masked], reduction="none")
        own = {"network": lost.mean(dim=0).double().numpy()}
        return own | counts.losses(codes[0].numpy(), masked[0].numpy())

    return of_segment


def next_token_losses(network: CausalTransformer, data: Data) -> Callable[[int], Losses]:
    """Return the losses of all tokens, read in parts that fit into the context."""
    counts = Counts(data, network.n_levels)
    samples = sample_losses(network, data) if network.linear is not None else None

    networks = {"network": network}
    if network.tables is not None:
        networks["counted start"] = without_blocks(network)

    def of_segment(row: int) -> Losses:
        codes = data.segment(row)
        sources = None if data.channels is None else sources_of(data, row)
        length, linear = network.context_steps(codes.shape[1]), network.predict_linearly(codes)
        total, n = {name: torch.zeros(network.n_levels, dtype=torch.float64) for name in networks}, 0
        for start in range(0, codes.shape[2], length):
            stop = start + length
            for name, one in networks.items():
                logits, sequence = one.logits(
                    codes[:, :, start:stop], sources, linear=None if linear is None else linear.cut(start, stop)
                )
                lost = F.cross_entropy(logits.float().flatten(0, 1), sequence.codes.flatten(), reduction="none")
                total[name].index_add_(0, sequence.level.flatten(), lost.double())
            n += lost.numel() // network.n_levels
        found = {name: (value / n).numpy() for name, value in total.items()}
        found |= counts.losses(codes[0].numpy(), np.ones(codes.shape[1:3], bool))
        return found if samples is None else found | samples(codes)

    return of_segment


def without_blocks(network: CausalTransformer) -> CausalTransformer:
    """Return the starting point of a network: its counted shares and predicted latents, without what it learned."""
    start = copy.deepcopy(network)
    start.blocks = nn.ModuleList()
    nn.init.zeros_(start.predict_head.weight)
    nn.init.zeros_(start.predict_head.bias)
    return start


def sample_losses(network: CausalTransformer, data: Data) -> Callable[[Tensor], Losses]:
    """Return the losses of the last sample and of linear predictions."""
    linear = network.linear
    differences = [linear.centres[data.segment(row)[0, ..., 0]].diff(dim=1) for row in data.some_training_rows()]
    last_scale = torch.cat([part.flatten() for part in differences]).std()
    nothing = linear.no_sums(1)
    coefficients, scale = linear._solve(nothing.gram, nothing.cross, nothing.power, nothing.n)

    def lost(codes: Tensor, location: Tensor, scale: Tensor) -> NDArray[np.float64]:
        shares = linear.log_shares(location.float(), scale.float().expand_as(location))
        return -shares.gather(-1, codes[..., None]).double().mean()[None].numpy()

    def of_codes(codes: Tensor) -> Losses:
        rows = codes[0, ..., 0]
        samples = linear.centres[rows].double()
        before = F.pad(samples, (1, 0))[:, :-1]
        shared = torch.einsum("btp,p->bt", linear._lags(samples), coefficients[0])
        adapted = linear(rows)
        return {
            "last sample": lost(rows, before, last_scale),
            "linear prediction": lost(rows, shared, scale[0]),
            "adaptive linear prediction": lost(rows, adapted.location, adapted.scale),
        }

    return of_codes


def window_losses(network: BrainOmni, data: Data) -> Callable[[int], Losses]:
    """Return mean squares of masked windows, in variances of the training segments; there is one level."""

    def tokens_of(row: int) -> Tensor:
        tokens: Tensor = network.window_power(network.tokenizer.features_from_codes(data.segment(row)))
        return tokens

    known = torch.cat([tokens_of(row) for row in data.some_training_rows()])
    mean, by_source = known.mean(dim=(0, 1, 2)), known.mean(dim=(0, 2))[:, None]
    before, after = known[:, :, :-1], known[:, :, 1:]
    centre = (before.mean(dim=(0, 1, 2)), after.mean(dim=(0, 1, 2)))
    slope = ((before - centre[0]) * (after - centre[1])).mean(dim=(0, 1, 2)) / before.var(dim=(0, 1, 2))

    def of_segment(row: int) -> Losses:
        tokens = tokens_of(row)
        generator = torch.Generator().manual_seed(row)
        masked = draw_pretraining_step(generator, shape=tokens.shape[:3], device=tokens.device).uniform_mask
        masked = masked <= network.config.mask_ratio
        masked[:, :, 0] = False  # no window before
        predicted = network.predict_head(network.hidden_windows(tokens, masked))
        last = tokens.roll(1, dims=2)
        rivals = {
            "network": predicted,
            "mean of all windows": mean.expand_as(tokens),
            "mean of the source": by_source.expand_as(tokens),
            "window before": last,
            "regression on the window before": centre[1] + slope * (last - centre[0]),
        }
        return {name: (value - tokens)[masked].double().square().mean()[None].numpy() for name, value in rivals.items()}

    return of_segment


def sources_of(data: Data, row: int) -> Sources:
    """Return the sensors of a segment whose channels are sources."""
    n = data.segment(row).shape[1]
    pos, types = data.corpus.sensors_of(np.array([row], np.int64), n)
    mask = torch.ones(1, n, dtype=torch.bool)
    return Sources(torch.from_numpy(pos), torch.from_numpy(types.astype(np.int64)), mask)


def chosen_rows(data: Data, split: str, per_subject: int) -> Iterator[tuple[str, list[int]]]:
    """Yield each subject of a split with some of its segments, spread over them."""
    for subject in np.unique(data.subject[data.split == split]).tolist():
        rows = np.flatnonzero((data.subject == subject) & (data.split == split))
        picks = np.unique(np.linspace(0, len(rows) - 1, min(per_subject, len(rows))).astype(int))
        yield subject, rows[picks].tolist()


def compare(network: EncoderModule, data: Data, split: str, per_subject: int) -> dict[str, dict[str, Any]]:
    """Return loss of the network and its baselines by archive, and the difference to the best baseline."""
    if isinstance(network, BrainOmni) and network.window_power is not None:
        of_segment = window_losses(network, data)
    elif isinstance(network, CausalTransformer):
        of_segment = next_token_losses(network, data)
    elif isinstance(network, MaskedEncoder):
        of_segment = masked_losses(network, data)
    else:
        raise TypeError(f"encoder {network.kind}: its losses are not known here")
    by_archive: dict[str, list[Losses]] = defaultdict(list)
    for subject, rows in chosen_rows(data, split, per_subject):
        found = [of_segment(row) for row in rows]
        means = {name: np.mean([one[name] for one in found], axis=0) for name in found[0]}
        by_archive[subject.split("/")[0]].append(means)
        by_archive["all"].append(means)
    return {archive: summarise(rows) for archive, rows in by_archive.items()}


def summarise(subjects: list[Losses]) -> dict[str, Any]:
    """Average over subjects, and compare with the baseline that is best on all levels together and on the first."""
    stacked = {name: np.stack([one[name] for one in subjects]) for name in subjects[0]}
    kinds = {name.split("/")[0] for name in stacked} - {"network"}
    best = {
        kind: min((n for n in stacked if n.split("/")[0] == kind), key=lambda n: float(stacked[n].mean()))
        for kind in sorted(kinds)
    }
    summary: dict[str, Any] = {"n_subjects": len(subjects)}
    summary["loss"] = {
        name: [round(float(stacked[name].mean()), 4), round(float(stacked[name][:, 0].mean()), 4)]
        for name in ("network", *best.values())
    }
    for label, part in (("all levels", lambda x: x.mean(axis=1)), ("first level", lambda x: x[:, 0])):
        rival = min(best.values(), key=lambda name: float(part(stacked[name]).mean()))
        found = interval((part(stacked["network"]) - part(stacked[rival])).tolist())
        summary[f"minus best, {label}"] = (
            [rival.split("/")[0]] if found is None else [rival.split("/")[0], *np.round(found[:3], 4).tolist()]
        )
    return summary


def open_data(store: Store, name: str) -> Data:
    """Open tokens and what is known of their segments."""
    tokens = TokenSet.open(store, name)
    corpus = Corpus.open(store, tokens.corpus)
    columns = [corpus.column(column).astype(str) for column in ("split", "subject")]
    channels = corpus.column("channels").astype(int) if tokens.by_channel else None
    return Data(np.asarray(tokens.codes), tokens.codebook_size, columns[0], columns[1], channels, corpus)


def main() -> None:
    """Compare the encoders of a store."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("store")
    parser.add_argument("--models", nargs="*")
    parser.add_argument("--split", default="held_out", choices=["validation", "held_out"])
    parser.add_argument("--segments", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    store = Store.open(arguments.store)
    results = {}
    for model in arguments.models or store.names("models"):
        card = store.read_json("models", model, "config.json")
        if card.get("role") == "tokenizer" or "tokens" not in card["provenance"]:
            continue
        data = open_data(store, card["provenance"]["tokens"])
        with torch.no_grad():
            network = load_encoder(store.local_copy("models", model)).eval()
            results[f"{card['kind']} {model}"] = compare(network, data, arguments.split, arguments.segments)
        for archive, found in results[f"{card['kind']} {model}"].items():
            print(card["kind"], model, archive, json.dumps(found), flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
