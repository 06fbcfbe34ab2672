"""Check what an EEGLAB set states: rate, channels, points, and the samples inside or beside it."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emeg.errors import RecordingError
from emeg.ingest.readers.header_matlab import check_matlab
from emeg.ingest.refusals import contradiction, file_named, malformed, short

SHORTEST_EPOCH_S = 2.0
"""Least length of epochs that are used as stretches of a recording, s: a window of the tokenizer."""

_SAMPLE_BYTES = 4
_NUMBERS = ("srate", "nbchan", "pnts", "trials", "xmin", "xmax")
_HDF5 = b"MATLAB 7.3"


class _Set(NamedTuple):
    """The fields that state the size; `data` is the shape of an array in the set, or a file's name."""

    srate: float
    nbchan: float
    pnts: float
    trials: float
    xmin: float
    """First and last time of an epoch, s."""
    xmax: float
    data: tuple[int, ...] | str


def check_eeglab(path: Path, name: str) -> None:
    """Compare the numbers of a set with each other, with its data, and with the ``.fdt`` beside it.

    Raises
    ------
    RecordingError
        It is no EEGLAB set, holds short epochs, has no rate, contradicts itself, or its data are absent or cut.
    """
    found = _read(path, name)
    if not (math.isfinite(found.srate) and found.srate > 0.0):
        raise malformed(name, f"the sampling rate (srate) is {found.srate:g} Hz")
    for field in ("nbchan", "pnts", "trials"):
        value = getattr(found, field)
        if not (math.isfinite(value) and value >= 1 and value == round(value)):
            raise malformed(name, f"{field} is {value:g}, a whole number from 1 on is needed")
    if found.trials > 1 and found.pnts < SHORTEST_EPOCH_S * found.srate:
        raise RecordingError(
            f"{name}: the set holds {found.trials:.0f} epochs of {found.pnts / found.srate:.3g} s, not a continuous"
            f" recording, and an epoch shorter than {SHORTEST_EPOCH_S:g} s cannot be used",
            next_action="ingest the continuous recording that the epochs were cut from",
        )
    if found.trials > 1 and not abs((found.xmax - found.xmin) * found.srate + 1.0 - found.pnts) < 1.0:
        raise contradiction(name, f"epochs go from {found.xmin:g} to {found.xmax:g} s and have {found.pnts:.0f} points")
    if isinstance(found.data, str):
        _check_fdt(path, name, found, found.data)
        return
    shape = found.data if len(found.data) > 1 else (1, *found.data)
    if found.trials > 1 and found.nbchan == 1 and len(shape) == 2:
        shape = (1, *shape)
    lengths = (found.nbchan, found.pnts, found.trials)
    for field, stated, held in zip(("nbchan", "pnts", "trials"), lengths, shape, strict=False):
        if stated != held:
            raise contradiction(name, f"{field} is {stated:.0f}, the data are {' x '.join(map(str, shape))}")


def n_epochs(path: Path, name: str) -> int:
    """Return the number of epochs in a set; 1 for a continuous recording.

    Raises
    ------
    RecordingError
        The file is no EEGLAB set.
    """
    trials = _read(path, name).trials
    return int(trials) if math.isfinite(trials) else 1


def _check_fdt(path: Path, name: str, found: _Set, stated: str) -> None:
    if "/" in stated or "\\" in stated:
        raise RecordingError(
            f"{name}: the set names its data by a path that leads outside its folder, so it is not opened",
            next_action="put the .fdt beside the set and save it again",
        )
    data = next((p for p in sorted(path.parent.iterdir()) if p.name == stated), path.with_suffix(".fdt"))
    if not data.is_file():
        raise RecordingError(
            f"{name}: the set names the data file {file_named(stated[:100])}, which is absent",
            next_action="put the .fdt beside the set",
        )
    size, promised = data.stat().st_size, int(_SAMPLE_BYTES * found.nbchan * found.pnts * found.trials)
    what = f"{found.pnts * found.trials:.0f} samples of {found.nbchan:.0f} channels"
    if size < promised:
        raise short(f"{name} ({data.name})", size=size, promised=promised, what=what)
    if size > promised:
        raise contradiction(name, f"{what} are {promised} bytes, {data.name} has {size}: it is of another recording")


def _read(path: Path, name: str) -> _Set:
    with path.open("rb") as file:
        is_hdf5 = file.read(len(_HDF5)) == _HDF5
    try:
        fields = _read_hdf5(path) if is_hdf5 else _read_mat(path)
    # Damaged MATLAB files meet the readers with errors of every kind, as in `emeg.ingest.readers.opening.reading`.
    except Exception as error:
        raise malformed(name, f"no MATLAB file: {' '.join(str(error).split()) or type(error).__name__}") from error
    if "data" not in fields:
        raise RecordingError(
            f"{name}: there is no EEGLAB structure in the file (no field 'data')",
            next_action="check that the file is what its extension says",
        )
    numbers = {key: _scalar(fields.get(key, 1.0 if key == "trials" else math.nan)) for key in _NUMBERS}
    return _Set(**numbers, data=fields["data"])


def _scalar(value: object) -> float:
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return math.nan
    return float(array.flat[0]) if array.size == 1 else math.nan


def _read_mat(path: Path) -> dict[str, Any]:
    """Read a MATLAB 5 file: a structure ``EEG``, or its fields as variables, where no samples need to be read."""
    from scipy.io import loadmat, whosmat

    check_matlab(path)
    shapes = {name: (shape, kind) for name, shape, kind in whosmat(path, appendmat=False)}
    options = {"appendmat": False, "squeeze_me": True, "struct_as_record": False}
    if "EEG" in shapes:
        structure = loadmat(path, variable_names=["EEG"], **options)["EEG"]
        fields = {key: getattr(structure, key) for key in (*_NUMBERS, "data") if hasattr(structure, key)}
    else:
        fields = loadmat(path, variable_names=list(_NUMBERS), **options)
        if "data" in shapes:
            shape, kind = shapes["data"]
            fields["data"] = loadmat(path, variable_names=["data"], **options)["data"] if kind == "char" else shape
    data = fields.get("data")
    if data is not None and not isinstance(data, str | tuple):
        fields["data"] = np.shape(data)
    return fields


def _read_hdf5(path: Path) -> dict[str, Any]:
    """Read a MATLAB 7.3 file, which is HDF5: arrays are transposed, texts are 16-bit codes."""
    import h5py  # type: ignore[import-untyped]

    with h5py.File(path, "r") as file:
        group = file.get("EEG", file)
        fields: dict[str, Any] = {key: group[key][()] for key in _NUMBERS if key in group}
        if "data" in group:
            data = group["data"]
            is_text = data.attrs.get("MATLAB_class", b"") == b"char"
            fields["data"] = "".join(map(chr, np.ravel(data[()]))) if is_text else tuple(reversed(data.shape))
    return fields
