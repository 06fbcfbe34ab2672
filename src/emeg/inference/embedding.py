"""A scikit-learn transformer over a pretrained encoder.

Shape letters: B batch, C channels, N samples, S latent sources, T latent steps, D features.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags

from emeg.errors import UserError
from emeg.inference.input_windows import UNIT_FACTORS, SignalWindows, Unit, usable_sensors, windows_of
from emeg.models import POOLINGS, EncoderModule, load_encoder, pool, pooled_names
from emeg.sensors import positions_with_regions
from emeg.tokenizers.braintokenizer import normalise_signal

if TYPE_CHECKING:
    import mne

EmbedderPooling = Literal["mean", "mean_std", "log_std", "power", "mean_power", "none"]
"""Poolings of `emeg.models.readout.pooling`, and none at all."""


class Embedder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Embed windows of EEG or MEG with a frozen encoder; any channels with known positions can be used.

    Nothing is learned in `fit`, so it may stand anywhere in a scikit-learn or MOABB pipeline.

    Parameters
    ----------
    model : str or Path
        Folder of an encoder: ``config.json`` and ``model.safetensors``.
    info : mne.Info, optional
        Channels and rate of arrays.
    montage : str, optional
        One of MNE's montages, for electrode names that the standard set does not know.
    unit : {"V", "mV", "uV", "nV"}
        Unit of EEG in arrays; MOABB delivers µV. MEG is in T and T/m. Epochs and Raw are always in V, T and T/m.
    window_s : float
        Length of the windows that a Raw is cut into, s.
    pooling : {"mean", "mean_std", "log_std", "power", "mean_power", "none"}
        Features of a window: mean over its steps, mean and standard deviation, logarithm of the standard deviation,
        log power of the features over time in 8 bands, mean and power, or all steps.
    layers : tuple of int
        Numbers of blocks behind the embeddings to average, from 0 to the depth of the model. Empty: the last but one.
    batch_size : int
        Windows computed at once.
    device : str
        ``"auto"`` uses a GPU if there is one.

    Examples
    --------
    >>> embedder = Embedder.from_pretrained("store/models/0a63d6c6ca935094")  # doctest: +SKIP
    >>> features = embedder.transform(epochs)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | Path = "",
        *,
        info: "mne.Info | None" = None,
        montage: str | None = None,
        unit: Unit = "V",
        window_s: float = 10.0,
        pooling: EmbedderPooling = "mean",
        layers: tuple[int, ...] = (),
        batch_size: int = 16,
        device: str = "auto",
    ) -> None:
        self.model = model
        self.info = info
        self.montage = montage
        self.unit = unit
        self.window_s = window_s
        self.pooling = pooling
        self.layers = layers
        self.batch_size = batch_size
        self.device = device

    @classmethod
    def from_pretrained(cls, model: str | Path, **parameters: Any) -> Self:  # noqa: ANN401 - those of __init__
        """Create an embedder and load its network at once, so that a wrong path is refused here."""
        embedder = cls(model, **parameters)
        embedder._network()
        return embedder

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ANN401 - scikit-learn's signature
        """Check the parameters and load the network; nothing is learned.

        Raises
        ------
        UserError
            A parameter is refused, or the model cannot be loaded.
        """
        self._check()
        network = self._network()
        depth = network.depth
        if wrong := [layer for layer in self.layers if not 0 <= layer <= depth]:
            raise UserError(f"layers: there is no {wrong[0]}; choose from 0 to {depth}, the number of blocks")
        if self.info is not None:
            usable_sensors(self.info, self.montage)
        return self

    def _check(self) -> None:
        if self.info is not None and not {"chs", "sfreq", "bads"} <= set(self.info):
            raise UserError("info: it is no mne.Info; give epochs.info, or mne.create_info(…) with a montage")
        if self.pooling not in (*POOLINGS, "none"):
            raise UserError(f"pooling: there is no {self.pooling!r}; choose from {', '.join((*POOLINGS, 'none'))}")
        if self.unit not in UNIT_FACTORS:
            raise UserError(f"unit: there is no {self.unit!r}; choose from {', '.join(UNIT_FACTORS)}")
        if not self.window_s > 0:
            raise UserError(f"window_s: {self.window_s} is not a length in seconds; give more than 0")
        if self.batch_size < 1:
            raise UserError(f"batch_size: {self.batch_size} is no number of windows; give 1 or more")
        container = getattr(self, "_sklearn_output_config", {}).get("transform", "default")
        if self.pooling == "none" and container != "default":
            raise UserError(
                f"pooling: 'none' gives four dimensions, which set_output(transform={container!r}) cannot hold;"
                " use mean or mean_std, or leave the output as an array"
            )

    def transform(self, X: Any) -> NDArray[np.float32]:  # noqa: ANN401 - scikit-learn's signature
        """Embed windows.

        Parameters
        ----------
        X : mne.Epochs, mne.io.Raw, sequence of mne.Epochs, or array of shape (window, channel, sample)
            See `emeg.inference.input_windows.windows_of`. A window shorter than 2 s is padded with zeros, with
            a warning; one shorter than 0.25 s is refused.

        Returns
        -------
        float32, shape (window, features)
            Features: `get_feature_names_out` names them. Shape (window, sources, steps, d) for ``"none"``.

        Raises
        ------
        UserError
            The model or the data do not fit; see `windows_of`.
        """
        self._check()
        network = self._network()
        windows = windows_of(X, info=self.info, montage=self.montage, window_s=self.window_s, unit=self.unit)
        parts = [
            self._embed(network, windows, slice(start, start + self.batch_size))
            for start in range(0, len(windows.signal), self.batch_size)
        ]
        return np.concatenate(parts)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:  # noqa: ANN401
        """Name the features: ``source<q>_<d>``, with ``_std``, ``_log_std`` or ``_power<k>`` appended.

        Raises
        ------
        UserError
            ``pooling="none"``: the features of one window are an array, not a row.
        """
        if self.pooling == "none":
            raise UserError("pooling: 'none' gives an array for each window, whose entries have no names; use mean")
        network = self._network()
        return np.array(pooled_names(self.pooling, network.n_sources, network.n_features), object)

    def _embed(self, network: EncoderModule, windows: SignalWindows, rows: slice) -> NDArray[np.float32]:
        device = next(network.parameters()).device
        x_BCN = torch.from_numpy(np.ascontiguousarray(windows.signal[rows])).to(device)
        n = len(x_BCN)
        pos = torch.from_numpy(positions_with_regions(windows.sensors)).to(device).expand(n, -1, -1)
        types = torch.from_numpy(windows.sensors.types.astype(np.int64)).to(device).expand(n, -1)
        with torch.inference_mode():
            embedded = network.embed(normalise_signal(x_BCN, types), pos, types, layers=self.layers).float()
            embedded_BSTD = embedded.mean(dim=0) if self.layers else embedded
            if self.pooling == "none":
                return np.asarray(embedded_BSTD.cpu().numpy())
            return np.asarray(pool(embedded_BSTD, self.pooling).cpu().numpy())

    def _network(self) -> EncoderModule:
        """Load the network when it is first needed, and again when the parameters that name it have changed."""
        asked = (str(self.model), self.device)
        loaded: tuple[tuple[str, str], EncoderModule] | None = getattr(self, "_loaded", None)
        if loaded is None or loaded[0] != asked:
            if not asked[0]:
                raise UserError("Embedder: model= is empty; give the folder of an encoder, such as a BrainOmni")
            device = _device(self.device)
            loaded = (asked, load_encoder(Path(self.model)).to(device))
            self._loaded = loaded
        return loaded[1]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the network; a copy loads it from its folder."""
        return {name: value for name, value in super().__getstate__().items() if name != "_loaded"}

    def __sklearn_tags__(self) -> Tags:
        """Declare three-dimensional input and that nothing is fitted."""
        tags: Tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.requires_fit = False
        return tags


def _device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` is a GPU if there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind = name.partition(":")[0]
    if kind not in ("cpu", "cuda", "mps"):
        raise UserError(f"device: there is no {name!r}; use auto, cpu, cuda or mps")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device: {name!r} needs a GPU, and PyTorch finds none here; use auto or cpu")
    return torch.device(name)
