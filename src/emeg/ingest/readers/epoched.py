"""EEGLAB sets of epochs, as one file in which they lie end to end.

A set of epochs is used if no continuous file of the recording was published. Each epoch becomes one stretch.

Shape letters: C channels, N samples.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emeg.ingest.readers.header_eeglab import n_epochs

if TYPE_CHECKING:
    import mne


_FRACTION = re.compile(r"(?<=\d)\.0+$")

EPOCH_SAMPLES = "emeg_epoch_samples"
"""Key under which an open file keeps the length of its epochs, samples."""


def read_eeglab(path: Path) -> "mne.io.BaseRaw":
    """Open an EEGLAB set, continuous or of epochs; epochs are read into memory."""
    import mne

    n = n_epochs(path, path.name)
    if n < 2:
        return _with_whole_codes(mne.io.read_raw(path, preload=False))
    # New events: those of the set need not be unique, and MNE would keep only the first of each epoch.
    events = np.stack([np.arange(n), np.zeros(n, int), np.ones(n, int)], axis=1)
    epochs = mne.read_epochs_eeglab(path, events=events, event_id={"epoch": 1})
    values = epochs.get_data()
    length = values.shape[2]
    raw = mne.io.RawArray(values.transpose(1, 0, 2).reshape(values.shape[1], -1), epochs.info)
    raw._filenames = (path,)
    # Latencies in a set of epochs count samples of all epochs, laid end to end.
    raw.set_annotations(mne.read_annotations(path), emit_warning=False)
    raw._raw_extras[0][EPOCH_SAMPLES] = length
    return _with_whole_codes(raw)


def _with_whole_codes(raw: "mne.io.BaseRaw") -> "mne.io.BaseRaw":
    """Rename the annotations of numeric event types, which MATLAB holds as floating-point numbers: 7.0 is 7."""
    names = {str(text): _FRACTION.sub("", str(text)) for text in raw.annotations.description}
    raw.annotations.rename({old: new for old, new in names.items() if old != new})
    return raw
