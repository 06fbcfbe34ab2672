"""Published foundation models of other groups: where their weights are, and what they were trained on."""

from typing import NamedTuple


class Published(NamedTuple):
    """A model of braindecode, and how it reads signals."""

    title: str
    """Name shown to readers."""
    model: str
    """Class in `braindecode.models`."""
    rate: float
    """Sampling rate of its pretraining, Hz."""
    repository: str
    """Hub repository of the published weights; empty if none is known."""
    datasets: tuple[str, ...] = ()
    """Pretraining datasets that its paper names, by registry id where there is one; no task on them is evaluated."""


MODELS = {
    "labram": Published(
        "LaBraM",
        "Labram",
        200.0,
        "braindecode/labram-pretrained",
        ("physionet-mi", "bci4-1", "grasp-and-lift", "inria-bci", "seed", "siena", "tuar", "tuep", "tusz", "tusl"),
    ),
    "biot": Published(
        "BIOT",
        "BIOT",
        200.0,
        "braindecode/biot-pretrained-six-datasets-18chs",
        ("shhs", "prest", "chb-mit", "iiic-seizure", "tuab", "tuev"),
    ),
    "cbramod": Published("CBraMod", "CBraMod", 200.0, "braindecode/cbramod-pretrained", ("tueg", "tuab", "tuev")),
    "eegpt": Published(
        "EEGPT", "EEGPT", 256.0, "braindecode/eegpt-pretrained", ("physionet-mi", "hgd", "tsu", "seed", "m3cv")
    ),
}
"""Models by the name of the rival."""
