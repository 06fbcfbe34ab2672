"""Steps of other libraries that are off by default: HPI removal, Maxwell filter, ICA by labels, reference.

They come in this order before the signal is standardised. Each of them needs the whole recording in memory, in double
precision: what `emeg.ingest.channel_rows` bounds is not bounded with them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from emeg.errors import RecordingError, UserError
from emeg.ingest.config import CleaningConfig
from emeg.ingest.signal.meg_state import coil_frequencies

if TYPE_CHECKING:
    import mne

_MEG_TYPES = frozenset({"mag", "grad"})
_REFERENCED = {"eeg": "EEG", "seeg": "SEEG", "ecog": "ECOG", "dbs": "DBS"}
_DEFAULT_ORIGIN_M = (0.0, 0.0, 0.04)
"""Centre of an adult's head below a helmet, where no head shape says better."""
_ICA_BAND_HZ = (1.0, 100.0)
_ICA_VARIANCE = 0.99
"""ICLabel was trained on components of such data: 1 to 100 Hz, average reference, extended Infomax."""
_KEPT_LABELS = frozenset({"brain", "other"})


class Cleaned(NamedTuple):
    """A recording in memory, and what was done to it."""

    raw: "mne.io.BaseRaw"
    notes: tuple[str, ...]


def check_cleaning(config: CleaningConfig) -> None:
    """Refuse steps whose package is not installed.

    Raises
    ------
    UserError
        Names the package.
    """
    if config.ica_labels:
        _icalabel()


def clean(raw: "mne.io.BaseRaw", config: CleaningConfig, bad: frozenset[str]) -> Cleaned:
    """Apply the requested steps; a step that finds nothing to work on says so in the notes.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        Loaded as a whole if there is anything to do; not changed otherwise.
    config : CleaningConfig
    bad : frozenset of str
        Channels marked bad, which reference and Maxwell filter do not use.

    Raises
    ------
    UserError
        A package is missing.
    RecordingError
        The reference names a channel that is not there, or a step refuses the recording.
    """
    check_cleaning(config)
    if config == CleaningConfig():
        return Cleaned(raw, ())
    raw = raw.copy().load_data(verbose="ERROR")
    raw.info["bads"] = [name for name in raw.ch_names if name in bad]
    try:
        return _steps(raw, config)
    except (ValueError, RuntimeError, np.linalg.LinAlgError) as error:  # what MNE-Python raises for data it cannot take
        raise RecordingError(
            f"cleaning failed: {' '.join(str(error).split())}",
            stage="signal",
            next_action="inspect the recording, or leave the step in standardise.cleaning off",
        ) from error


def _steps(raw: "mne.io.BaseRaw", config: CleaningConfig) -> Cleaned:
    notes: list[str] = []
    if config.remove_hpi:
        notes.append(_remove_hpi(raw))
    if config.maxwell:
        raw = _maxwell(raw, config, notes)
    if config.ica_labels:
        notes.append(_remove_artefacts(raw, config))
    if config.reference is not None:
        notes.append(_refer(raw, config.reference))
    return Cleaned(raw, tuple(notes))


def _remove_hpi(raw: "mne.io.BaseRaw") -> str:
    import mne

    frequencies = coil_frequencies(raw)
    if not frequencies:
        return "cleaning: no continuous HPI in the header, none removed"
    mne.chpi.filter_chpi(raw, include_line=False, verbose="ERROR")
    return f"cleaning: HPI at {', '.join(f'{f:g}' for f in frequencies)} Hz removed"


def _maxwell(raw: "mne.io.BaseRaw", config: CleaningConfig, notes: list[str]) -> "mne.io.BaseRaw":
    import mne

    if not _MEG_TYPES & set(raw.get_channel_types()):
        notes.append("cleaning: no MEG, no Maxwell filter")
        return raw
    if any(len(step.get("max_info", {}).get("sss_info", {})) for step in raw.info["proc_history"]):
        notes.append("cleaning: signal space separation was done before, not done again")
        return raw
    placed = raw.info["dev_head_t"] is not None
    shape = placed and sum(int(point["kind"]) == _EXTRA_POINT for point in raw.info["dig"] or ()) >= _HEAD_SHAPE_POINTS
    cleaned = mne.preprocessing.maxwell_filter(
        raw,
        origin="auto" if shape else _DEFAULT_ORIGIN_M,
        coord_frame="head" if placed else "meg",
        st_duration=config.maxwell_window_s,
        ignore_ref=True,
        verbose="ERROR",
    )
    with cleaned.info._unlock():
        cleaned.info["maxshield"] = False
    window = f", temporal in windows of {config.maxwell_window_s:g} s" if config.maxwell_window_s else ""
    notes.append(f"cleaning: Maxwell filter in {'head' if placed else 'device'} coordinates{window}")
    return cleaned


_EXTRA_POINT = 4
"""FIFF kind of a point of the head's shape."""
_HEAD_SHAPE_POINTS = 10
"""From which a sphere can be fitted to them."""


def _refer(raw: "mne.io.BaseRaw", reference: str) -> str:
    import mne

    kinds = [kind for kind in _REFERENCED if kind in raw.get_channel_types()]
    if not kinds:
        return "cleaning: no EEG, no reference"
    names = [name.strip() for name in reference.split(",")]
    if names != ["average"] and (absent := [name for name in names if name not in raw.ch_names]):
        raise RecordingError(
            f"the reference {absent[0]!r} is no channel of the recording",
            stage="signal",
            next_action="correct standardise.cleaning.reference; channels have the names that the entry gives them",
        )
    for kind in kinds:
        mne.set_eeg_reference(
            raw, "average" if names == ["average"] else names, ch_type=kind, copy=False, verbose="ERROR"
        )
    return f"cleaning: {', '.join(_REFERENCED[kind] for kind in kinds)} referred to {reference}"


def _icalabel() -> Any:  # noqa: ANN401 - untyped package
    try:
        return import_module("mne_icalabel")
    except ImportError as error:
        raise UserError(
            f"standardise.cleaning.ica_labels needs the package mne-icalabel ({error}); install mne-icalabel and"
            " onnxruntime, or leave the step off"
        ) from error


def _remove_artefacts(raw: "mne.io.BaseRaw", config: CleaningConfig) -> str:
    """Remove the components that ICLabel classifies as eyes, muscles, heart, mains or a single channel.

    EEG has the average reference afterwards: components fitted to it say nothing about what all channels share.
    """
    import mne

    good = mne.pick_types(raw.info, eeg=True, exclude="bads")
    if len(good) < config.ica_min_channels:
        return f"cleaning: {len(good)} EEG channels, too few for ICA"
    band = (_ICA_BAND_HZ[0], min(_ICA_BAND_HZ[1], 0.45 * float(raw.info["sfreq"])))
    mne.set_eeg_reference(raw, "average", copy=False, verbose="ERROR")
    seen = raw.copy().pick(good).filter(*band, verbose="ERROR")
    ica = mne.preprocessing.ICA(
        _ICA_VARIANCE, method="infomax", fit_params={"extended": True}, random_state=0, max_iter="auto", verbose="ERROR"
    )
    ica.fit(seen, verbose="ERROR")
    found = _icalabel().label_components(seen, ica, method="iclabel")
    sure = np.asarray(found["y_pred_proba"]) >= config.ica_min_probability
    out = [i for i, label in enumerate(found["labels"]) if sure[i] and label not in _KEPT_LABELS]
    ica.apply(raw, exclude=out, verbose="ERROR")
    labels = ", ".join(sorted(found["labels"][i] for i in out))
    return f"cleaning: {len(out)} of {ica.n_components_} components removed" + (f" ({labels})" if out else "")
