"""The models that are compared on a task, and why others are not."""

from collections.abc import Iterator
from typing import Literal

from emeg.data.corpus.registered import registry_id
from emeg.errors import UserError
from emeg.evaluation.classical.channels import NO_CHANNEL
from emeg.evaluation.configs import EvaluateConfig
from emeg.evaluation.embeddings import EmbeddingSpec
from emeg.evaluation.leaks import declared_and_tested
from emeg.evaluation.protocol.compute import Compared, FeatureReadOut
from emeg.evaluation.protocol.fine_tuned import FineTunedNetwork
from emeg.evaluation.protocol.products import STIMULUS_FEATURES
from emeg.evaluation.protocol.task_data import TaskData
from emeg.evaluation.rivals import RIVALS, RivalModel, missing_reason

OTHER_KINDS = {"regression": ("ridge",), "retrieval": ("contrastive", "ridge"), "encoding": ("ridge",)}
"""Read-outs of the kinds without classes."""


def models_compared(
    config: EvaluateConfig, data: TaskData, model: str | None, not_run: list[tuple[str, str, str]]
) -> Iterator[Compared]:
    """Yield the models compared on a task; those that cannot run are noted with the reason."""
    kind = data.recipe.kind
    conditions = ("", "calibrated") if data.rule == "calibration" else ("",)
    read_outs = OTHER_KINDS.get(kind, config.read_outs)
    if kind == "encoding":
        yield from _encoding(config, data, not_run)
        return
    for condition in conditions:
        if model is not None:
            if "frozen" in config.modes:
                for read_out in read_outs:
                    yield from _frozen(config, model, read_out, condition)
            yield from _fine_tuned(config, data, model, condition, not_run)
        for name in tuple(RIVALS) if "all" in config.rivals else config.rivals:
            reason = _unfit(name, data)
            if reason:
                not_run.append((data.recipe.id, name, reason))
            else:
                rival = RIVALS[name]
                yield Compared(name, rival.title, "", "", "", rival, None, "real", condition)


def _encoding(config: EvaluateConfig, data: TaskData, not_run: list[tuple[str, str, str]]) -> Iterator[Compared]:
    """Yield the models of an encoding task; all of them predict responses from what is known of the stimuli."""
    for labels in ("real", "permuted") if config.permuted_labels else ("real",):
        title = "Features of the stimuli, ridge" + (", permuted" if labels == "permuted" else "")
        yield Compared(STIMULUS_FEATURES, title, "", "", "ridge", FeatureReadOut("ridge"), None, labels)
    for name, rival in RIVALS.items():
        if "encoding" not in rival.kinds:
            continue
        if reason := _unfit(name, data):
            not_run.append((data.recipe.id, name, reason))
        else:
            yield Compared(name, rival.title, "", "", "", rival, None, "real")
    reason = "no network takes part: responses are predicted from the stimuli"
    not_run += [(data.recipe.id, mode, reason) for mode in config.modes if mode != "frozen"]


def _fine_tuned(
    config: EvaluateConfig, data: TaskData, model: str, condition: str, not_run: list[tuple[str, str, str]]
) -> Iterator[Compared]:
    for mode in config.modes:
        if mode == "frozen":
            continue
        if condition:
            reason = "unlabelled signal aligns features and signals; a network that is trained has neither"
            not_run.append((data.recipe.id, f"{mode} {condition}", reason))
            continue
        kinds: list[tuple[Literal["pretrained", "random"], str]] = [("pretrained", "real")]
        kinds += [("pretrained", "permuted")] if config.permuted_labels else []
        kinds += [("random", "real")] if config.random_weights else []
        for weights, labels in kinds:
            rival = FineTunedNetwork(mode, data, model, weights, config.fit, config.device)
            yield Compared(model, _title(weights, rival.title, labels), weights, mode, "", rival, None, labels)


def _frozen(config: EvaluateConfig, model: str, read_out: str, condition: str) -> Iterator[Compared]:
    rival = FeatureReadOut(read_out)
    pretrained = EmbeddingSpec(model, "pretrained", 0, str(config.pooling), config.layers)
    specs = [(pretrained, "real")]
    specs += [(pretrained, "permuted")] if config.permuted_labels else []
    specs += [(pretrained._replace(weights="random"), "real")] if config.random_weights else []
    for spec, labels in specs:
        title = _title(spec.weights, f"frozen, {read_out}", labels)
        yield Compared(model, title, spec.weights, "frozen", read_out, rival, spec, labels, condition)


def _title(weights: str, how: str, labels: str) -> str:
    start = "Random weights" if weights == "random" else "Pretrained"
    return f"{start}, {how}" + ("" if labels == "real" else f", {labels} labels")


def _unfit(name: str, data: TaskData) -> str:
    """Return why a rival cannot run on a task; empty if it can."""
    rival = RIVALS.get(name)
    if rival is None:
        raise UserError(f"rivals: there is no rival {name!r}; use one of {', '.join(RIVALS)}")
    if data.recipe.kind not in rival.kinds:
        return f"it cannot do tasks of kind {data.recipe.kind}"
    if rival.input == "signal" and not data.has_channels:
        return NO_CHANNEL
    if rival.input == "low_level" and (data.stimuli is None or data.stimuli.low_level_BD is None):
        return "the task names no low-level features; set stimulus.low_level to their columns"
    return _trained_on(rival, data) or missing_reason(rival)


def _trained_on(rival: RivalModel, data: TaskData) -> str:
    """Return that published weights were trained on a dataset of the task; empty if they were not."""
    names = sorted(set(data.windows.datasets.tolist()))
    tested = {name: registry_id(data.store, name) or name for name in names} if rival.pretraining_datasets else {}
    seen = [declared for _, declared in declared_and_tested(rival.pretraining_datasets, tested)]
    return f"its published weights were trained on {', '.join(seen)}, whose subjects are tested" if seen else ""
