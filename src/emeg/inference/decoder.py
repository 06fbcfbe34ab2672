"""A PyTorch module from signals to outputs, for packages that fine-tune networks: braindecode, skorch, OpenEEGBench.

Shape letters: B batch, C channels, N samples, D features.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from emeg.errors import UserError
from emeg.inference.input_windows import (
    SFREQ,
    UNIT_FACTORS,
    Unit,
    check_amplitude,
    resample_windows,
    usable_sensors,
)
from emeg.models import POOLINGS, BrainOmniConfig, EncoderModule, Pooling, n_pooled, pool
from emeg.models.building import build_encoder
from emeg.models.encoder_module import DEFAULT_ENCODER, DEFAULT_TOKENIZER
from emeg.models.hub import resolve
from emeg.plugins import role_of
from emeg.sensors import positions_with_regions
from emeg.tokenizers.braintokenizer import normalise_signal
from emeg.tokenizers.braintokenizer.pretrained import CARD, WEIGHTS, load_strictly, load_weights, read_card
from emeg.version import __version__

if TYPE_CHECKING:
    import mne

KIND = "decoder"
BACKBONE = "encoder"
"""Role of the models that a decoder begins from."""
CHANNEL_FIELDS = ("ch_name", "kind", "coil_type", "unit", "coord_frame", "loc")
"""Entries of a channel in ``mne.Info["chs"]`` that decide its type and position."""
_KIND_EEG, _UNIT_VOLT, _COIL_EEG, _FRAME_HEAD = 2, 107, 1, 4
MOST_RESAMPLING_WEIGHTS = 2**26
"""Largest number of entries of the matrix that resamples a window: 256 MiB."""
MOMENTUM = 0.1
"""Weight of a batch in the running mean and variance of the features."""

Architecture = BrainOmniConfig | Mapping[str, Any] | str | Path


class RunningStandardise(nn.Module):
    """Standardise features with a running mean and variance that training updates before it uses them.

    Unlike `torch.nn.BatchNorm1d` it computes the same in training and evaluation for the same statistics, and it
    accepts a batch of one window. Before any training it changes nothing.
    """

    mean: Tensor
    variance: Tensor
    n_batches: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("variance", torch.ones(n_features))
        self.register_buffer("n_batches", torch.tensor(0))

    def forward(self, features_BD: Tensor) -> Tensor:
        """Standardise features; in training mode update the statistics first.

        Parameters
        ----------
        features_BD : float32, shape (batch, features)
            Pooled features, dimensionless.

        Returns
        -------
        float32, shape (batch, features)
        """
        if self.training and len(features_BD) > 1:
            self._update(features_BD.detach().float())
        return (features_BD - self.mean) / (self.variance + 1e-6).sqrt()

    @torch.no_grad()
    def _update(self, features_BD: Tensor) -> None:
        weight = torch.where(self.n_batches == 0, 1.0, MOMENTUM)
        self.mean.lerp_(features_BD.mean(dim=0), weight)
        self.variance.lerp_(features_BD.var(dim=0, correction=0), weight)
        self.n_batches += 1


class Decoder(nn.Module):
    """Map windows of EEG or MEG to outputs: tokenizer, encoder of any kind, pooling over time and a linear layer.

    The arguments have braindecode's names and order. Windows are resampled to 256 Hz, normalised by sensor type, and
    encoded with the positions of their sensors, so any channels with known positions can be used. The quantizer and
    the decoder of the tokenizer are not used; gradients reach all other weights, except those of the tokenizer if the
    encoder reads codes, as the kind ``causal`` does.

    Parameters
    ----------
    n_outputs : int
        Number of outputs: classes, or targets of a regression.
    n_chans : int, optional
        Number of channels; must equal the length of `chs_info`.
    chs_info : sequence of dict
        Channels as in ``mne.Info["chs"]``. A channel needs at least ``ch_name``; electrodes without ``loc`` get their
        position by name.
    n_times : int, optional
        Samples of a window.
    input_window_seconds : float, optional
        Length of a window, s; with `sfreq` it gives `n_times`.
    sfreq : float
        Rate of the input, Hz.
    config : BrainOmniConfig, mapping, str or Path
        Architecture: a model folder or ``organisation/name`` on a Hugging Face hub, of which only ``config.json`` is
        read, or the mapping ``{"config": …, "tokenizer": …}`` (with ``kind`` and ``tokenizer_kind`` unless they are
        ``brainomni`` and ``braintokenizer``), or a configuration of BrainOmni with the tokenizer's default sizes.
        Weights are random; `from_pretrained` loads them.
    unit : {"V", "mV", "uV", "nV"}
        Unit of EEG channels in the input. MEG is in T and T/m.
    montage : str, optional
        One of MNE's montages, for electrode names that the standard set does not know.
    pooling : str
        One of `emeg.models.POOLINGS`.
    layers : tuple of int
        Blocks whose outputs are averaged, from 0 to the depth of the model; empty: the last but one.

    Attributes
    ----------
    final_layer : torch.nn.Linear
        The only layer that depends on `n_outputs`. Packages replace it by their own head.

    Raises
    ------
    UserError
        An argument is missing or contradicts another, no channel has a known position, or the architecture cannot be
        read. The message names the argument.

    Examples
    --------
    >>> decoder = Decoder.from_pretrained("lab/brainomni", n_outputs=4, chs_info=epochs.info["chs"],
    ...                                   sfreq=epochs.info["sfreq"], n_times=512)  # doctest: +SKIP
    >>> logits = decoder(torch.from_numpy(epochs.get_data()).float())  # doctest: +SKIP
    """

    _picks: Tensor
    _pos: Tensor
    _types: Tensor
    _factors: Tensor

    def __init__(
        self,
        n_outputs: int | None = None,
        n_chans: int | None = None,
        chs_info: Sequence[Mapping[str, Any]] | None = None,
        n_times: int | None = None,
        input_window_seconds: float | None = None,
        sfreq: float | None = None,
        *,
        config: Architecture | None = None,
        unit: Unit = "V",
        montage: str | None = None,
        pooling: Pooling = "log_std",
        layers: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if chs_info is None:
            raise UserError('chs_info is missing; give the channels of the input, for instance epochs.info["chs"]')
        if n_outputs is None or n_outputs < 1:
            raise UserError(f"n_outputs is {n_outputs}; give the number of classes or targets, at least 1")
        if n_chans not in (None, len(chs_info)):
            raise UserError(f"n_chans is {n_chans}, but chs_info has {len(chs_info)} channels; omit n_chans")
        if unit not in UNIT_FACTORS:
            raise UserError(f"unit is {unit!r}; choose one of {', '.join(UNIT_FACTORS)}")
        if pooling not in POOLINGS:
            raise UserError(f"pooling is {pooling!r}; choose one of {', '.join(POOLINGS)}")
        self.sfreq = _rate(sfreq, n_times, input_window_seconds)
        self.n_times = _n_times(self.sfreq, n_times, input_window_seconds)
        self.n_outputs = n_outputs
        self.chs_info = [_plain_channel(channel) for channel in chs_info]
        self.n_chans = len(self.chs_info)
        self.unit: Unit = unit
        self.montage = montage
        self.pooling: Pooling = pooling
        self.layers = tuple(layers)
        self._resampling: dict[tuple[int, torch.device], Tensor] = {}

        self.backbone: EncoderModule = _architecture(config)
        depth = self.backbone.depth
        if wrong := [layer for layer in self.layers if not 0 <= layer <= depth]:
            raise UserError(f"layers has {wrong[0]}; choose from 0 to {depth}, the number of blocks")
        picked = usable_sensors(_info(self.chs_info, self.sfreq), montage)
        types = picked.sensors.types.astype(np.int64)
        self.register_buffer("_picks", torch.from_numpy(picked.picks.astype(np.int64)), persistent=False)
        self.register_buffer("_pos", torch.from_numpy(positions_with_regions(picked.sensors)), persistent=False)
        self.register_buffer("_types", torch.from_numpy(types), persistent=False)
        factors = np.where(picked.sensors.is_meg, 1.0, UNIT_FACTORS[unit]).astype(np.float32)
        self.register_buffer("_factors", torch.from_numpy(factors), persistent=False)
        self._intracranial = bool(picked.sensors.is_intracranial.any())
        self._amplitude_checked = False
        self.n_features = n_pooled(pooling, self.backbone.n_sources, self.backbone.n_features)
        self.feature_scale = RunningStandardise(self.n_features)
        self.final_layer: nn.Module = nn.Linear(self.n_features, n_outputs)

    # Inference

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor | dict[str, Tensor | None]:
        """Compute outputs, or the features before the last layer.

        Parameters
        ----------
        x : float, shape (batch, channels, samples)
            Signal: EEG in `unit`, MEG in T or T/m, at `sfreq`.
        return_features : bool
            Return ``{"features": …, "cls_token": None}`` instead, as braindecode's models do.

        Returns
        -------
        float, shape (batch, n_outputs)
            Logits, or targets of a regression. With `return_features`, the features have shape (batch, n_features).

        Raises
        ------
        UserError
            The shape does not match `chs_info`, or the first batch with a signal is in another unit.
        """
        features_BD = self.feature_scale(pool(self._embed(x), self.pooling))
        if return_features:
            return {"features": features_BD, "cls_token": None}
        outputs: Tensor = self.final_layer(features_BD)
        return outputs

    def _embed(self, x: Tensor) -> Tensor:
        """Embed windows: float32, shape (batch, sources, steps, features)."""
        if x.ndim != 3 or x.shape[1] != self.n_chans:
            raise UserError(
                f"x has shape {tuple(x.shape)}; give (batch, channels, samples) with {self.n_chans} channels,"
                " those of chs_info in their order"
            )
        signal_BCN = x.float()[:, self._picks] * self._factors[:, None]
        if not self._amplitude_checked and bool(signal_BCN.any()):
            check_amplitude(signal_BCN.detach().cpu().numpy(), self._types.cpu().numpy(), advice="set unit=")
            self._amplitude_checked = True
        signal_BCN = self._resampled(signal_BCN)
        n = len(signal_BCN)
        pos, types = self._pos.expand(n, -1, -1), self._types.expand(n, -1)
        embedded = self.backbone.embed_differentiably(
            normalise_signal(signal_BCN, types, intracranial=self._intracranial),
            pos,
            types,
            overlap=self.backbone.config.overlap_ratio,
            layers=self.layers,
        )
        return embedded.mean(dim=0) if self.layers else embedded

    def _resampled(self, signal_BCN: Tensor) -> Tensor:
        """Resample by a matrix, the response of `resample_windows` to unit impulses, so that gradients pass."""
        if self.sfreq == SFREQ:
            return signal_BCN
        n_in, device = signal_BCN.shape[-1], signal_BCN.device
        if n_in * round(n_in * SFREQ / self.sfreq) > MOST_RESAMPLING_WEIGHTS:
            raise UserError(
                f"x has {n_in} samples at {self.sfreq:g} Hz, too many to resample here; resample to {SFREQ:g} Hz first"
            )
        matrix = self._resampling.get((n_in, device))
        if matrix is None:
            impulses = np.eye(n_in, dtype=np.float32)[None]
            matrix = torch.from_numpy(resample_windows(impulses, self.sfreq)[0]).to(device)
            self._resampling = {(n_in, device): matrix}
        return signal_BCN @ matrix

    # What braindecode's models offer

    @property
    def input_window_seconds(self) -> float:
        """Return the length of a window, s."""
        return self._needed_times() / self.sfreq

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Return the shape of one window with its batch dimension."""
        return (1, self.n_chans, self._needed_times())

    def get_output_shape(self) -> tuple[int, ...]:
        """Return the shape of the output of one window, (1, n_outputs)."""
        weight = next(self.parameters())
        with torch.inference_mode():
            output = self(torch.zeros(self.input_shape, device=weight.device))
        return tuple(cast("Tensor", output).shape)

    def reset_head(self, n_outputs: int) -> None:
        """Replace `final_layer` by a new linear layer with `n_outputs` outputs.

        Raises
        ------
        UserError
            `n_outputs` is below 1.
        """
        if n_outputs < 1:
            raise UserError(f"n_outputs is {n_outputs}; give at least 1")
        weight = next(self.backbone.parameters())
        self.n_outputs = n_outputs
        self.final_layer = nn.Linear(self.n_features, n_outputs, device=weight.device)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the class as JSON values; `from_config` reads them."""
        return {
            "n_outputs": self.n_outputs,
            "chs_info": self.chs_info,
            "n_times": self.n_times,
            "sfreq": self.sfreq,
            "config": _description(self.backbone),
            "unit": self.unit,
            "montage": self.montage,
            "pooling": self.pooling,
            "layers": list(self.layers),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Create a decoder with random weights from what `get_config` returns."""
        return cls(**config)

    # Files

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``, the head included.

        Raises
        ------
        UserError
            `final_layer` was replaced by something other than a linear layer; save the state dict yourself.
        """
        head = self.final_layer
        if not isinstance(head, nn.Linear) or head.in_features != self.n_features:
            raise UserError(
                f"final_layer is {type(head).__name__}, not the linear layer of this class; call reset_head first, or"
                " save state_dict() with torch.save"
            )
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        card = {"kind": KIND, "version": __version__, "config": self.get_config()}
        state = {name: value.detach().cpu().clone().contiguous() for name, value in self.state_dict().items()}
        save_file(state, folder / WEIGHTS)
        text = json.dumps(card, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
        (folder / CARD).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        n_outputs: int | None = None,
        chs_info: Sequence[Mapping[str, Any]] | None = None,
        revision: str | None = None,
        **arguments: Any,  # noqa: ANN401 - the other arguments of the class
    ) -> Self:
        """Load a pretrained encoder with a new head, or a saved decoder with its head.

        Parameters
        ----------
        model : str or Path
            Folder, or ``organisation/name`` on a Hugging Face hub (extra ``hub``).
        n_outputs, chs_info, **arguments
            Arguments of the class. Those of a saved decoder are the defaults; its head is kept if `n_outputs` is equal.
        revision : str, optional
            Branch, tag or commit on the hub.

        Returns
        -------
        Decoder
            In evaluation mode.

        Raises
        ------
        UserError
            The model cannot be read, or an argument is missing or wrong.
        """
        folder = resolve(model, revision=revision)
        card = read_card(folder, BACKBONE, KIND)
        given: dict[str, Any] = arguments | {"n_outputs": n_outputs, "chs_info": chs_info}
        given = {name: value for name, value in given.items() if value is not None}
        state = load_weights(folder)
        if role_of(card) == BACKBONE:
            decoder = cls(config=folder, **given)
            load_strictly(decoder.backbone, state, source=str(folder))
            return decoder.eval()
        saved = dict(card["config"])
        if "sfreq" in given or "n_times" in given:  # the stored length is in samples of the stored rate
            saved.pop("n_times", None)
        decoder = cls(**saved | given)
        if decoder.n_outputs != saved["n_outputs"]:
            own = decoder.state_dict()
            state |= {name: own[name] for name in own if name.startswith("final_layer.")}
        load_strictly(decoder, state, source=str(folder))
        return decoder.eval()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the resampling matrix, which is computed when needed."""
        return {**self.__dict__, "_resampling": {}}

    def _needed_times(self) -> int:
        if self.n_times is None:
            raise UserError("n_times is not known; create the decoder with n_times= or input_window_seconds=")
        return self.n_times


def _rate(sfreq: float | None, n_times: int | None, input_window_seconds: float | None) -> float:
    """Return the rate of the input, Hz, from two of rate, samples and seconds if it is not given."""
    if sfreq is None and n_times is not None and input_window_seconds:
        sfreq = n_times / input_window_seconds
    if sfreq is None or sfreq <= 0:
        raise UserError(f"sfreq is {sfreq}; give the rate of the input in Hz")
    return float(sfreq)


def _n_times(sfreq: float, n_times: int | None, input_window_seconds: float | None) -> int | None:
    """Return the samples of a window, None if unknown, after checking that the arguments agree."""
    if input_window_seconds is None:
        return n_times
    expected = round(input_window_seconds * sfreq)
    if n_times not in (None, expected):
        raise UserError(
            f"n_times is {n_times}, but {input_window_seconds:g} s at {sfreq:g} Hz have {expected} samples; omit one"
        )
    return expected


def _architecture(config: Architecture | None) -> EncoderModule:
    """Return an encoder with initial weights."""
    if config is None:
        raise UserError(
            "config is missing; give a model folder, a repository on the hub, or the mapping of get_config()"
        )
    if isinstance(config, BrainOmniConfig):
        return build_encoder({"config": config.model_dump(mode="json")}, source="config")
    if isinstance(config, (str, Path)):
        folder = resolve(config)
        card = read_card(folder, BACKBONE, KIND)
        card = card["config"]["config"] if card["kind"] == KIND else card
        return build_encoder(card, source=f"{folder}/{CARD}")
    return build_encoder(config, source="config")


def _description(encoder: EncoderModule) -> dict[str, Any]:
    """Return what `build_encoder` reads."""
    described: dict[str, Any] = {
        "config": encoder.config.model_dump(mode="json"),
        "tokenizer": encoder.tokenizer.config.model_dump(mode="json"),
    }
    if encoder.kind != DEFAULT_ENCODER:
        described["kind"] = encoder.kind
    if encoder.tokenizer.kind != DEFAULT_TOKENIZER:
        described["tokenizer_kind"] = encoder.tokenizer.kind
    return described


def _plain_channel(channel: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a channel that decide type and position, as JSON values; an electrode is the default."""
    if not channel.get("ch_name"):
        raise UserError(f"chs_info has a channel without ch_name: {dict(channel)}; give channels as in mne.Info['chs']")
    plain: dict[str, Any] = {"ch_name": str(channel["ch_name"])}
    defaults = {"kind": _KIND_EEG, "coil_type": _COIL_EEG, "unit": _UNIT_VOLT, "coord_frame": _FRAME_HEAD}
    for name, default in defaults.items():
        value = channel.get(name, default)
        plain[name] = default if isinstance(value, str) else int(value)
    loc = channel.get("loc")
    values = np.full(12, np.nan) if loc is None else np.array([np.nan if x is None else x for x in loc], float)
    plain["loc"] = [float(value) if np.isfinite(value) else None for value in values]  # JSON has no NaN
    return plain


def _info(channels: Sequence[Mapping[str, Any]], sfreq: float) -> "mne.Info":
    """Create an ``mne.Info`` of plain channels."""
    import mne

    info = mne.create_info([channel["ch_name"] for channel in channels], sfreq, "eeg")
    for entry, channel in zip(info["chs"], channels, strict=True):
        entry.update({name: channel[name] for name in CHANNEL_FIELDS if name not in {"loc", "ch_name"}})
        entry["loc"] = np.array([np.nan if value is None else value for value in channel["loc"]], float)
    return info
