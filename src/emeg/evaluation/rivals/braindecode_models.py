"""Foundation models of other groups through braindecode, which is installed in an environment of its own.

braindecode needs torchaudio, whose ordinary build does not fit a CPU build of torch, so it is not a dependency. Weights
come from the model's hub repository; without a connection they must be in the hub's cache.
"""

import importlib
from collections.abc import Sequence
from typing import Any

from torch import nn

from emeg.errors import UserError
from emeg.evaluation.protocol.interfaces import Channel
from emeg.evaluation.rivals.published import MODELS


class BraindecodeBuilder:
    """Function that creates a model of braindecode, from published or random weights.

    Parameters
    ----------
    name : str
        One of `MODELS`.
    channels : sequence of Channel
        Channels of the windows.
    is_pretrained : bool
        Whether to load the published weights.
    """

    def __init__(self, name: str, channels: Sequence[Channel], *, is_pretrained: bool) -> None:
        self.name = name
        self.channels = tuple(channels)
        self.is_pretrained = is_pretrained

    def __call__(self, n_channels: int, n_samples: int, n_outputs: int, sfreq: float) -> nn.Module:
        """Create the model.

        Raises
        ------
        UserError
            braindecode cannot be imported, or the weights cannot be loaded or do not fit.
        """
        published = MODELS[self.name]
        try:
            models = importlib.import_module("braindecode.models")
        except (ImportError, OSError, RuntimeError) as error:
            raise UserError(
                f"model {self.name}: braindecode cannot be imported: {error}. Install emeg[braindecode] with torchaudio"
                " of the same build as torch in an environment of its own, or leave the model out"
            ) from error
        kind = getattr(models, published.model)
        sizes: dict[str, Any] = {
            "n_chans": n_channels,
            "n_times": n_samples,
            "n_outputs": n_outputs,
            "sfreq": sfreq,
            "chs_info": self._channel_infos(),
        }
        if not self.is_pretrained:
            made: nn.Module = kind(**sizes)
            return made
        try:
            loaded: nn.Module = kind.from_pretrained(published.repository, **sizes)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise UserError(
                f"model {self.name}: weights {published.repository} cannot be loaded: {error}. Download them where"
                " there is a connection, set HF_HOME to that cache, or leave the model out"
            ) from error
        return loaded

    def _channel_infos(self) -> list[dict[str, Any]]:
        """Return the channels as MNE describes them."""
        import mne
        import numpy as np

        names = ("eeg", "mag", "grad")
        info = mne.create_info([c.name for c in self.channels], 1.0, [names[int(c.type)] for c in self.channels])
        for entry, channel in zip(info["chs"], self.channels, strict=True):
            entry["loc"][:3] = np.array(channel.position)
        return list(info["chs"])
