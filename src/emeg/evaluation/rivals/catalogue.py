"""The models that are compared, each with its settings and the packages it needs.

Every rival chooses among the same number of settings, the budget. Chance and the dummy have nothing to choose.
"""

import importlib.util
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.pipeline import make_pipeline

from emeg.errors import UserError
from emeg.evaluation.protocol.interfaces import Channel, Family, Input, Kind, Setting
from emeg.evaluation.rivals.chance import ChanceClassifier, DummyOutput
from emeg.evaluation.rivals.published import MODELS
from emeg.evaluation.rivals.read_outs import read_out

LABELLED: frozenset[Kind] = frozenset({"classification", "diagnosis"})
"""Kinds of tasks with classes."""
ANY: frozenset[Kind] = LABELLED | {"regression"}
ENCODING: frozenset[Kind] = frozenset({"encoding"})
WITH_RETRIEVAL: frozenset[Kind] = ANY | {"retrieval"}
"""Kinds of models whose ridge read-out predicts the features of a stimulus as well as a target."""
C_GRID = (1.0, 0.01, 100.0, 0.1, 10.0, 0.001)
"""Penalties of a read-out in the order in which a small budget uses them; see `emeg.evaluation.rivals.read_outs`."""
EXTRAS = {"pyriemann": "baselines", "braindecode": "braindecode"}
"""Extra of emeg that installs a package."""


@dataclass(frozen=True)
class Request:
    """What an estimator is created for."""

    setting: Setting
    kind: Kind
    n_classes: int
    """Number of classes; 0 for a regression."""
    channels: tuple[Channel, ...]
    sfreq: float
    """Sampling rate, Hz."""
    seed: int

    @property
    def types(self) -> tuple[int, ...]:
        """Sensor type index of each channel."""
        return tuple(int(channel.type) for channel in self.channels)


@dataclass(frozen=True)
class RivalModel:
    """A model that is compared; it implements `emeg.evaluation.protocol.interfaces.Rival`."""

    name: str
    title: str
    build: Callable[[Request], Any]
    options: Mapping[str, tuple[float | int | str, ...]]
    """Values of each parameter, the most plausible first."""
    family: Family = "handcrafted"
    package: str = ""
    pretraining_datasets: tuple[str, ...] = ()
    """Datasets that its published weights were trained on, by registry id where there is one."""
    kinds: frozenset[Kind] = ANY
    input: Input = "signal"

    def settings(self, budget: int) -> Sequence[Setting]:
        """Return the settings to choose from on validation, at most `budget`, the most plausible first.

        Raises
        ------
        UserError
            The budget is below 1.
        """
        return spread_settings(self.options, budget)

    def estimator(
        self, setting: Setting, *, kind: Kind, n_classes: int, channels: Sequence[Channel], sfreq: float, seed: int
    ) -> Any:  # noqa: ANN401 - an estimator of scikit-learn
        """Create an estimator that is not fitted yet.

        Parameters
        ----------
        setting : mapping
            One of `settings`.
        kind : str
            Kind of the task.
        n_classes : int
            Number of classes; 0 for a regression.
        channels : sequence of Channel
        sfreq : float
            Sampling rate, Hz.
        seed : int
            Seed of every draw.

        Raises
        ------
        UserError
            The model does not fit the kind of task, or its package is not installed.
        """
        if kind not in self.kinds:
            raise UserError(
                f"model {self.name}: it cannot do tasks of kind {kind}, only {', '.join(sorted(self.kinds))};"
                " leave it out of the models compared"
            )
        if reason := missing_reason(self):
            raise UserError(f"model {self.name}: {reason}")
        request = Request(setting, kind, 0 if kind == "regression" else n_classes, tuple(channels), sfreq, seed)
        return self.build(request)


def missing_reason(rival: Any) -> str:  # noqa: ANN401 - any Rival
    """Return why a rival cannot run here and what installs it; empty if it can."""
    package = str(rival.package)
    if not package or importlib.util.find_spec(package) is not None:
        return ""
    extra = EXTRAS.get(package, "")
    return f"not installed: {package}; install it with pip install {f'emeg[{extra}]' if extra else package}"


def spread_settings(options: Mapping[str, tuple[float | int | str, ...]], budget: int) -> list[dict[str, Any]]:
    """Return at most `budget` combinations of options, so that each option varies before all of them are used.

    Combinations are ordered by how far their values stand from the front of the options.

    Raises
    ------
    UserError
        The budget is below 1.
    """
    if budget < 1:
        raise UserError(f"budget: {budget} settings are too few; set budget to 1 or more")
    ranked = sorted(
        itertools.product(*(range(len(values)) for values in options.values())),
        key=lambda ranks: (sum(ranks), -max(ranks, default=0), ranks),
    )
    return [
        {name: values[rank] for (name, values), rank in zip(options.items(), ranks, strict=True)}
        for ranks in ranked[:budget]
    ]


def _read_out(request: Request) -> Any:  # noqa: ANN401 - an estimator of scikit-learn
    """Create the linear read-out of features: logistic for classes, ridge for a target."""
    penalty = float(request.setting["penalty"])
    if request.n_classes:
        return read_out("logistic", penalty, n_classes=request.n_classes)
    return read_out("ridge", 1.0 / penalty, n_classes=0)


def _chance(request: Request) -> Any:  # noqa: ANN401
    return ChanceClassifier(request.n_classes) if request.n_classes else DummyOutput(DummyRegressor(strategy="mean"), 0)


def _dummy(request: Request) -> Any:  # noqa: ANN401
    if request.n_classes:
        dummy = DummyClassifier(strategy="stratified", random_state=request.seed)
    else:
        dummy = DummyRegressor(strategy="median")
    return DummyOutput(dummy, request.n_classes)


def _band_power(request: Request) -> Any:  # noqa: ANN401
    from emeg.evaluation.rivals.spectral_features import BandPower

    bands: Any = request.setting["bands"]
    return make_pipeline(BandPower(request.sfreq, request.types, bands), _read_out(request))


def _aperiodic(request: Request) -> Any:  # noqa: ANN401
    from emeg.evaluation.rivals.spectral_features import AperiodicFeatures

    features = AperiodicFeatures(request.sfreq, with_offset=request.setting["offset"] == "yes")
    return make_pipeline(features, _read_out(request))


def _time_series(request: Request) -> Any:  # noqa: ANN401
    from emeg.evaluation.rivals.time_series_features import TimeSeriesFeatures

    return make_pipeline(TimeSeriesFeatures(), _read_out(request))


def _tangent_space(request: Request) -> Any:  # noqa: ANN401
    from emeg.evaluation.rivals.spatial_features import TangentFeatures

    bands: Any = request.setting["bands"]
    return make_pipeline(TangentFeatures(request.sfreq, request.types, bands), _read_out(request))


def _csp(request: Request) -> Any:  # noqa: ANN401
    from emeg.evaluation.rivals.spatial_features import FILTER_BANK_HZ, CspFeatures

    bands = FILTER_BANK_HZ if request.setting["bands"] == "filter bank" else ((8.0, 30.0),)
    features = CspFeatures(request.sfreq, request.types, bands, int(request.setting["n_components"]))
    return make_pipeline(features, _read_out(request))


def _xdawn(request: Request) -> Any:  # noqa: ANN401
    from emeg.evaluation.rivals.spatial_features import XdawnFeatures

    features = XdawnFeatures(request.sfreq, request.types, int(request.setting["n_filters"]))
    return make_pipeline(features, _read_out(request))


def _cca(request: Request) -> Any:  # noqa: ANN401
    from emeg.evaluation.rivals.frequency_tags import CcaFeatures

    return make_pipeline(CcaFeatures(request.sfreq, int(request.setting["n_harmonics"])), _read_out(request))


def _network(architecture: str) -> Callable[[Request], Any]:
    def build(request: Request) -> Any:  # noqa: ANN401
        from emeg.evaluation.rivals.network_estimator import NetworkEstimator
        from emeg.evaluation.rivals.networks import ScratchBuilder

        setting = request.setting
        return NetworkEstimator(
            ScratchBuilder(architecture, float(setting["dropout"])),
            sfreq=request.sfreq,
            sensor_types=request.types,
            n_classes=request.n_classes,
            learning_rate=float(setting["learning_rate"]),
            steps=int(setting["steps"]),
            seed=request.seed,
        )

    return build


def _braindecode(name: str, *, is_pretrained: bool) -> Callable[[Request], Any]:
    def build(request: Request) -> Any:  # noqa: ANN401
        from emeg.evaluation.rivals.braindecode_models import BraindecodeBuilder
        from emeg.evaluation.rivals.network_estimator import NetworkEstimator

        return NetworkEstimator(
            BraindecodeBuilder(name, request.channels, is_pretrained=is_pretrained),
            sfreq=request.sfreq,
            sensor_types=request.types,
            n_classes=request.n_classes,
            rate=MODELS[name].rate,
            scale=1e-6,
            learning_rate=float(request.setting["learning_rate"]),
            steps=int(request.setting["steps"]),
            seed=request.seed,
        )

    return build


_SCRATCH: dict[str, tuple[float | int | str, ...]] = {
    "learning_rate": (1e-3, 3e-3, 3e-4),
    "dropout": (0.5, 0.25),
    "steps": (300, 900),
}
_RIDGE: dict[str, tuple[float | int | str, ...]] = {"penalty": C_GRID}
_PUBLISHED: dict[str, tuple[float | int | str, ...]] = {"learning_rate": (3e-4, 1e-4, 1e-3), "steps": (300, 900)}

RIVALS: dict[str, RivalModel] = {
    rival.name: rival
    for rival in (
        RivalModel("chance", "Chance", _chance, {}, family="reference", kinds=WITH_RETRIEVAL | ENCODING, input="none"),
        RivalModel("dummy", "Random guesses", _dummy, {}, family="reference", input="none"),
        RivalModel(
            "band_power",
            "Band power",
            _band_power,
            {"penalty": C_GRID, "bands": ("classical", "narrow")},
            kinds=WITH_RETRIEVAL,
        ),
        RivalModel(
            "aperiodic",
            "Aperiodic slope",
            _aperiodic,
            {"penalty": C_GRID, "offset": ("no", "yes")},
            kinds=WITH_RETRIEVAL,
        ),
        RivalModel(
            "time_series", "Time-series features after catch22", _time_series, {"penalty": C_GRID}, kinds=WITH_RETRIEVAL
        ),
        RivalModel(
            "tangent_space",
            "Covariances in tangent space",
            _tangent_space,
            {"penalty": C_GRID, "bands": ("classical", "broad", "narrow")},
            package="pyriemann",
            kinds=WITH_RETRIEVAL,
        ),
        RivalModel(
            "csp",
            "Common spatial patterns",
            _csp,
            {"penalty": C_GRID, "bands": ("broad", "filter bank"), "n_components": (6, 4, 10)},
            kinds=LABELLED,
        ),
        RivalModel(
            "xdawn",
            "xDAWN covariances",
            _xdawn,
            {"penalty": C_GRID, "n_filters": (2, 4, 8)},
            package="pyriemann",
            kinds=frozenset({"classification"}),
        ),
        RivalModel(
            "cca",
            "Canonical correlation with sines",
            _cca,
            {"penalty": C_GRID, "n_harmonics": (2, 1, 3)},
            kinds=frozenset({"classification"}),
        ),
        RivalModel("eegnet", "EEGNet from scratch", _network("eegnet"), _SCRATCH, family="supervised"),
        RivalModel(
            "shallow", "Shallow convolutional network from scratch", _network("shallow"), _SCRATCH, family="supervised"
        ),
        *(
            RivalModel(
                name if is_pretrained else f"{name}_random",
                f"{published.title}, {'published' if is_pretrained else 'random'} weights, fine-tuned",
                _braindecode(name, is_pretrained=is_pretrained),
                _PUBLISHED,
                family="published" if is_pretrained else "supervised",
                pretraining_datasets=published.datasets if is_pretrained else (),
                package="braindecode",
            )
            for name, published in MODELS.items()
            for is_pretrained in (True, False)
        ),
        RivalModel(
            "low_level", "Low-level features of the stimuli", _read_out, _RIDGE, kinds=ENCODING, input="low_level"
        ),
        RivalModel(
            "previous_stimulus",
            "Features of the stimulus before",
            _read_out,
            _RIDGE,
            kinds=ENCODING,
            input="previous_stimulus",
        ),
        RivalModel("time", "Time in the recording", _read_out, _RIDGE, kinds=ENCODING, input="time"),
    )
}
"""Models compared by name, in the order of tables."""


def permuted_labels(labels: Any, subjects: Any, seed: int) -> Any:  # noqa: ANN401 - arrays of any dtype
    """Permute labels for the control that no model can pass except by chance.

    Labels are permuted among the windows of each subject. Where every subject has a single label, as in a diagnosis,
    they are permuted among the subjects.

    Parameters
    ----------
    labels : int64 or float64, shape (windows,)
        Class indices or targets.
    subjects : str, shape (windows,)
        Global name of the subject of every window; no unit.
    seed : int
        Seed of the permutation.

    Returns
    -------
    array, shape (windows,), dtype of `labels`
    """
    labels, subjects = np.asarray(labels), np.asarray(subjects)
    generator = np.random.default_rng([seed, 17])
    names, owner, first = _subjects_of(subjects)
    if all(len(np.unique(labels[owner == k])) == 1 for k in range(len(names))):
        return labels[first][generator.permutation(len(names))][owner]
    permuted = labels.copy()
    for k in range(len(names)):
        rows = np.flatnonzero(owner == k)
        permuted[rows] = labels[generator.permutation(rows)]
    return permuted


def _subjects_of(subjects: Any) -> tuple[Any, Any, Any]:  # noqa: ANN401
    names, first, owner = np.unique(subjects, return_index=True, return_inverse=True)
    return names, owner, first
