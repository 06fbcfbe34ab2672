"""Linear prediction of samples that adapts to each channel, as the starting point of a network.

past samples ──running sums, prior──▶ coefficients, scale ──▶ location ──▶ log probability of every code

The coefficients of a block of samples are those of a ridge regression on all samples before the block, drawn towards
the average of the training segments. The linear autoregression of a channel is therefore contained in the network.

Shape letters: B batch, N samples, S latent sources, T latent steps, Q quantizer levels, K codes.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from emeg.errors import UserError
from emeg.models.causal.config import CausalConfig
from emeg.models.causal.mixture import NormalMixture, interval_shares
from emeg.tokenizers.interface import Tokenizer

PRIOR_SAMPLES = 128
"""Samples that the average of the training segments counts as. Of 32, 128, 512 and 2,048, 32 and 128 predict validation
subjects best after 5 s (within .003 nats of each other on three archives); 128 is the safer one for short prompts."""
BLOCK = 64
"""Samples that share coefficients."""
FLOOR = 1e-3
"""Probability that is spread evenly over all codes: a normal distribution makes outliers impossible."""
MIXTURE_FLOOR = 1e-5
"""The same beside a mixture, whose wide part allows outliers."""
MIXTURE_SEGMENTS = 32
"""Training segments whose innovations the mixture is fitted to, which limits time."""
FARTHEST = 1e4
"""Amplitude in place of an infinite one."""
RIDGE = 1e-6
"""Added to the diagonal of the prior, as a share of its mean."""
ROWS = 64
"""Channels whose sums are computed at once, which limits memory."""
BLOCKS_AT_ONCE = 16
"""Blocks of a long past whose sums are computed at once, which limits memory."""


class LinearPrediction(NamedTuple):
    """Distribution of each sample given its past, before the network corrects it."""

    location: Tensor
    """float32 (..., T): expected sample, in the scale of `normalise_signal`."""
    scale: Tensor
    """float32 (..., T): standard deviation of the innovation."""
    innovation: Tensor
    """float32 (..., T): (sample − location) / scale of the sample before, which is known; 0 for the first one."""

    def cut(self, start: int, stop: int) -> "LinearPrediction":
        """Return the samples from `start` to `stop`."""
        return LinearPrediction(*(part[..., start:stop] for part in self))


class ScaleChange(NamedTuple):
    """How a network changes the scale and the tail of a linear prediction."""

    widening: Tensor
    """float32 (...): logarithm of the factor of the scale."""
    tail: Tensor | None
    """float32 (..., 2): change of the wide part of the mixture; None without a mixture."""

    def of_source(self, source: int) -> "ScaleChange":
        """Return the change of one source, from changes of shape (sequences, sources): (sequences, 1)."""
        own = slice(source, source + 1)
        return ScaleChange(self.widening[:, own], None if self.tail is None else self.tail[:, own])


class LinearSums(NamedTuple):
    """Sums over samples with a whole past, from which coefficients follow. Float64; the last dimensions are given."""

    gram: Tensor
    """(..., taps, taps): products of past samples."""
    cross: Tensor
    """(..., taps): products of past samples and the sample."""
    power: Tensor
    """(...): squares of the sample."""
    n: Tensor
    """(...): number of samples; 1 in place of the number of channels."""

    def add(self, other: "LinearSums") -> "LinearSums":
        """Return the sums over the samples of both."""
        return LinearSums(*(own + more for own, more in zip(self, other, strict=True)))


class AdaptiveLinear(nn.Module):
    """Ridge regression of a sample on its past, with running sums for each channel and a prior from training segments.

    Parameters
    ----------
    n_taps : int
        Past samples.
    edges_K : float32, shape (codes + 1,)
        Edges of the codes' intervals, in the scale of `normalise_signal`, dimensionless.
    centres_K : float32, shape (codes,)
        Sample that each code stands for, dimensionless.
    heavy_tail : bool
        Innovations have a mixture of two normal distributions instead of one.
    keep_codes : bool
        Save edges and centres with the weights, because they do not follow from a configuration.
    """

    gram: Tensor
    cross: Tensor
    power: Tensor
    edges: Tensor
    centres: Tensor

    def __init__(
        self, n_taps: int, edges_K: Tensor, centres_K: Tensor, *, heavy_tail: bool = False, keep_codes: bool = False
    ) -> None:
        super().__init__()
        self.n_taps = n_taps
        self.register_buffer("gram", torch.eye(n_taps, dtype=torch.float64))
        self.register_buffer("cross", torch.zeros(n_taps, dtype=torch.float64))
        self.register_buffer("power", torch.ones((), dtype=torch.float64))
        # infinite edges would make the gradient NaN
        self.register_buffer("edges", edges_K.clamp(-FARTHEST, FARTHEST), persistent=keep_codes)
        self.register_buffer("centres", centres_K, persistent=keep_codes)
        self.mixture = NormalMixture() if heavy_tail else None

    @torch.no_grad()
    def fit_prior(self, segments: Iterable[Tensor]) -> None:
        """Set the prior to the average over channels and samples of segments, and fit the mixture to their innovations.

        Parameters
        ----------
        segments : iterable of int64, shape (channels, steps)
            Codes of training segments.
        """
        gram, cross, power = torch.zeros_like(self.gram), torch.zeros_like(self.cross), torch.zeros_like(self.power)
        kept, n = list(segments), 0
        for codes in kept:
            samples = self.centres[codes].double()
            lags = self._lags(samples)[:, self.n_taps :]
            now = samples[:, self.n_taps :]
            gram += torch.einsum("btp,btq->pq", lags, lags)
            cross += torch.einsum("btp,bt->p", lags, now)
            power += now.square().sum()
            n += now.numel()
        if n:
            self.gram.copy_(gram / n)
            self.cross.copy_(cross / n)
            self.power.copy_(power / n)
        if n and self.mixture is not None:
            some = kept[:: -(-len(kept) // MIXTURE_SEGMENTS)]
            self.mixture.fit(torch.cat([self._innovations(codes) for codes in some]))

    @torch.no_grad()
    def forward(self, codes_BT: Tensor) -> LinearPrediction:
        """Predict every sample from those before it.

        Parameters
        ----------
        codes_BT : int64, shape (channels, steps)
            Codes, each row a channel.
        """
        parts = [self._predict(rows) for rows in torch.split(codes_BT, ROWS)]
        return LinearPrediction(*(torch.cat(list(column)) for column in zip(*parts, strict=True)))

    @torch.no_grad()
    def fit(self, samples_BN: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fit whole stretches.

        Parameters
        ----------
        samples_BN : float64, shape (channels, samples)
            In the scale of `normalise_signal`, dimensionless.

        Returns
        -------
        tuple of float64, shapes (channels, taps), (channels,) and (channels, samples)
            Coefficients of the last sample first, scales, and innovations from the sample on that has a whole past.
        """
        lags, now = self._lags(samples_BN)[:, self.n_taps :], samples_BN[:, self.n_taps :]
        coefficients, scale = self._solve(
            torch.einsum("btp,btq->bpq", lags, lags),
            torch.einsum("btp,bt->bp", lags, now),
            now.square().sum(1),
            torch.tensor(float(now.shape[1])).to(now),
        )
        left = now - torch.einsum("btp,bp->bt", lags, coefficients)
        return coefficients, scale, left / scale[:, None]

    def log_shares(self, location: Tensor, scale: Tensor, change: Tensor | None = None) -> Tensor:
        """Return the log probability of every code, with a floor: shape (..., codes).

        Parameters
        ----------
        location, scale : float, shape (...)
            Mean and standard deviation, in the scale of `normalise_signal`, dimensionless.
        change : float, shape (..., 2), optional
            Change of the wide part of the mixture, dimensionless; see `NormalMixture.shares`.
        """
        if self.mixture is None:
            share, floor = interval_shares(self.edges, location, scale), FLOOR
        else:
            share, floor = self.mixture.shares(self.edges, location, scale, change), MIXTURE_FLOOR
        return torch.log((1 - floor) * share + floor / share.shape[-1])

    def _innovations(self, codes_BT: Tensor) -> Tensor:
        """Return the standardised innovations of all samples with a whole past: shape (samples,)."""
        predicted = self(codes_BT)
        innovations = (self.centres[codes_BT] - predicted.location) / predicted.scale
        found: Tensor = innovations[:, self.n_taps :].flatten()
        return found

    def _predict(self, codes_BT: Tensor) -> LinearPrediction:
        return self.predict_after(self.centres[codes_BT].double(), 0, self.no_sums(len(codes_BT)))

    def no_sums(self, n_channels: int) -> LinearSums:
        """Return the sums over no samples.

        Parameters
        ----------
        n_channels : int
            Number of channels.
        """
        shapes = ((n_channels, self.n_taps, self.n_taps), (n_channels, self.n_taps), (n_channels,), (1,))
        return LinearSums(*(self.gram.new_zeros(shape) for shape in shapes))

    @torch.no_grad()
    def sum_up(self, samples_BN: Tensor, start: int, stop: int) -> LinearSums:
        """Return the sums over the samples of whole blocks.

        Parameters
        ----------
        samples_BN : float64, shape (channels, samples)
            Samples from the first one on, in the scale of `normalise_signal`, dimensionless.
        start, stop : int
            Range of samples, multiples of `BLOCK`.
        """
        total = self.no_sums(len(samples_BN))
        for first in range(start, stop, BLOCKS_AT_ONCE * BLOCK):
            last = min(first + BLOCKS_AT_ONCE * BLOCK, stop)
            total = total.add(LinearSums(*(part.sum(1) for part in self._block_sums(samples_BN[:, :last], first)[2])))
        return total

    @torch.no_grad()
    def predict_after(self, samples_BN: Tensor, start: int, before: LinearSums) -> LinearPrediction:
        """Predict the samples from a block on, given the sums over the blocks before it.

        Parameters
        ----------
        samples_BN : float64, shape (channels, samples)
            Samples from the first one on, in the scale of `normalise_signal`, dimensionless.
        start : int
            First sample to predict, a multiple of `BLOCK`.
        before : LinearSums
            Sums over the samples before `start`.
        """
        n = samples_BN.shape[1] - start
        lags, now, sums = self._block_sums(samples_BN, start)
        earlier = (part.cumsum(1) - part for part in sums)  # each block without itself
        coefficients, scale = self._solve(*(part + given[:, None] for part, given in zip(earlier, before, strict=True)))
        location = torch.einsum("bktp,bkp->bkt", lags, coefficients)
        scales = scale[..., None].expand_as(location)
        innovation = ((now - location) / scales).flatten(1)[:, : n - 1]
        return LinearPrediction(
            location.flatten(1)[:, :n].float(),
            scales.flatten(1)[:, :n].float(),
            nn.functional.pad(innovation, (1, 0)).float(),
        )

    def _block_sums(self, samples_BN: Tensor, start: int) -> tuple[Tensor, Tensor, LinearSums]:
        """Return past samples, samples and sums of each block from `start` on; the last block is padded with zeros."""
        n = samples_BN.shape[1] - start
        n_blocks = -(-n // BLOCK)
        missing = max(0, self.n_taps - start)
        begun = nn.functional.pad(samples_BN[:, max(0, start - self.n_taps) :], (missing, n_blocks * BLOCK - n))
        lags = begun[:, :-1].unfold(1, self.n_taps, 1).flip(-1)
        lags, now = (torch.unflatten(part, 1, (n_blocks, BLOCK)) for part in (lags, begun[:, self.n_taps :]))
        index = torch.arange(start, start + n_blocks * BLOCK, device=now.device)
        is_whole = (index >= self.n_taps).view(n_blocks, BLOCK).to(now)
        weighted = lags * is_whole[..., None]
        sums = LinearSums(
            torch.einsum("bktp,bktq->bkpq", weighted, lags),
            torch.einsum("bktp,bkt->bkp", weighted, now),
            (now.square() * is_whole).sum(2),
            is_whole.sum(1)[None],
        )
        return lags, now, sums

    def _solve(self, gram: Tensor, cross: Tensor, power: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
        """Return coefficients and scale of sums over n samples together with the prior."""
        prior = self.gram + RIDGE * self.gram.diagonal().mean() * torch.eye(self.n_taps).to(self.gram)
        gram = gram + PRIOR_SAMPLES * prior
        cross = cross + PRIOR_SAMPLES * self.cross
        coefficients = torch.linalg.solve(gram, cross[..., None])[..., 0]
        left = power + PRIOR_SAMPLES * self.power - (coefficients * cross).sum(-1)
        return coefficients, (left / (n + PRIOR_SAMPLES)).clamp(min=1e-6).sqrt()

    def _lags(self, samples_BT: Tensor) -> Tensor:
        """Return the samples before each sample, the newest first, 0 before the start: (B, T, taps)."""
        padded = nn.functional.pad(samples_BT, (self.n_taps, 0))[:, :-1]
        return padded.unfold(1, self.n_taps, 1).flip(-1)


def build_linear(config: CausalConfig, tokenizer: Tokenizer) -> AdaptiveLinear | None:
    """Return the linear prediction that a configuration asks for; None if it asks for none.

    Raises
    ------
    UserError
        The tokens are no samples of channels.
    """
    if not config.linear_taps:
        return None
    edges = getattr(tokenizer, "code_edges", lambda: None)()
    if edges is None:
        raise UserError(
            f"linear_taps is {config.linear_taps}, but codes of tokenizer {getattr(tokenizer, 'kind', '')!r} are no"
            " intervals of amplitude; choose µ-law tokens (recipe mulaw), or the network nano-samples (for tokens of"
            " samples) or nano (for latent sources)"
        )
    n_codes = tokenizer.sizes.n_codes
    codes = torch.arange(n_codes, device=edges.device)[
        :, None, None, None
    ]  # each alone: codes may change later samples
    no_sensor = torch.zeros(n_codes, 1, 6, device=edges.device), torch.zeros(n_codes, 1, device=edges.device).long()
    with torch.no_grad():
        centres = tokenizer.decode(codes, *no_sensor)[:, 0, 0].clone()
    is_trained = isinstance(tokenizer, nn.Module) and next(tokenizer.parameters(), None) is not None
    return AdaptiveLinear(config.linear_taps, edges, centres, heavy_tail=config.heavy_tail, keep_codes=is_trained)


class LinearState:
    """Linear prediction of a continuation, sample after sample, with the coefficients of the prompt.

    Parameters
    ----------
    linear : AdaptiveLinear
    codes_BSTQ : int64, shape (batch, channels, steps, 1)
        Codes of the whole prompt.
    """

    def __init__(self, linear: AdaptiveLinear, codes_BSTQ: Tensor) -> None:
        self._linear = linear
        self._shape = codes_BSTQ.shape[:2]
        self._summed, self._sums = 0, linear.no_sums(self._shape.numel())
        samples = linear.centres[codes_BSTQ[..., 0].flatten(0, 1)].double()
        self._coefficients, self._scale, innovations = linear.fit(samples)
        self.innovations = torch.unflatten(innovations, 0, self._shape)
        padded = nn.functional.pad(samples, (linear.n_taps, 0))
        self._last = padded[:, -linear.n_taps :].flip(1)
        self._innovation = innovations[:, -1] if innovations.shape[1] else torch.zeros_like(self._scale)

    def of_prompt(self, codes_BSTQ: Tensor, start: int, in_step: int) -> LinearPrediction:
        """Return the prediction of the codes from a step on, and of the next token: shape (sequences, tokens).

        Successive calls have the same start or later ones, so that sums over the earlier past are computed once.

        Parameters
        ----------
        codes_BSTQ : int64, shape (batch, channels, steps, 1)
            All codes so far.
        start : int
            First step.
        in_step : int
            Tokens of a step in a sequence: all channels, or 1 if each channel is a sequence.
        """
        codes = torch.cat([codes_BSTQ, codes_BSTQ[:, :, -1:]], dim=2)[..., 0]  # no prediction uses the appended code
        samples = self._linear.centres[codes.flatten(0, 1)].double()
        # the innovation of the sample before is known too; sums of earlier calls are kept
        first = max(self._summed, (start - 1) // BLOCK * BLOCK)
        self._sums = self._sums.add(self._linear.sum_up(samples, self._summed, first))
        self._summed = first
        predicted = self._linear.predict_after(samples, first, self._sums).cut(start - first, codes.shape[2] - first)
        if in_step == 1:
            return predicted
        n_tokens = (codes.shape[2] - 1 - start) * in_step + 1
        parts = (torch.unflatten(part, 0, self._shape).transpose(1, 2).flatten(1) for part in predicted)
        return LinearPrediction(*(part[:, :n_tokens] for part in parts))

    def predict(self, source: int, in_step: int) -> LinearPrediction:
        """Return the prediction of the next sample of one source in each sequence: shape (sequences, 1)."""
        parts = ((self._last * self._coefficients).sum(1), self._scale, self._innovation)
        return LinearPrediction(*(part.float().view(-1, in_step)[:, source, None] for part in parts))

    def add(self, codes_B: Tensor, source: int, in_step: int) -> None:
        """Append the drawn code of one source in each sequence.

        Parameters
        ----------
        codes_B : int64, shape (sequences,)
            Codes.
        source : int
            Index of the source in its sequence.
        in_step : int
            Tokens of a step in a sequence.
        """
        rows = torch.arange(len(self._last), device=codes_B.device).view(-1, in_step)[:, source]
        sample, last = self._linear.centres[codes_B].double(), self._last[rows]
        expected = (last * self._coefficients[rows]).sum(1)
        self._last[rows] = torch.cat([sample[:, None], last[:, :-1]], dim=1)
        self._innovation[rows] = (sample - expected) / self._scale[rows]
