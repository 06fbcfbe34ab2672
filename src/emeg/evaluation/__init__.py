"""What a model is worth on people that nothing has seen, beside what simpler things are worth.

corpus (held-out people) + model ──finetune──▶ models/<finetuned>/  predictions.parquet, histories.parquet
finetuned + corpus + tokens ──evaluate──▶ evaluations/<evaluation>/ figures.json, figures.parquet,
                                          predictions.parquet, reconstruction.npz ──▶ reports

A task's people are those whom the corpus holds out: neither tokenizer nor BrainOmni was trained on them. Every
contestant is fitted on the same training people of a fold, chooses its settings on the same validation people, and is
tested once on people that appear in neither. `emeg.evaluation.products` describes every file. Names are loaded when
first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emeg.evaluation.agreement import tokens_agree
    from emeg.evaluation.baselines import BASELINES, Baseline, fit_baseline
    from emeg.evaluation.configs import EvaluateConfig, EvaluateResult, FinetuneConfig, FinetuneResult
    from emeg.evaluation.evaluating import evaluate
    from emeg.evaluation.finetuning import finetune
    from emeg.evaluation.logistic import Rows, Setting
    from emeg.evaluation.metrics import METRICS, Score, confusion, score
    from emeg.evaluation.products import EvaluationFigures, read_arrays, read_figures, read_predictions
    from emeg.evaluation.task import Task, make_task, missing_task, try_task

__all__ = [
    "BASELINES",
    "METRICS",
    "Baseline",
    "EvaluateConfig",
    "EvaluateResult",
    "EvaluationFigures",
    "FinetuneConfig",
    "FinetuneResult",
    "Rows",
    "Score",
    "Setting",
    "Task",
    "confusion",
    "evaluate",
    "finetune",
    "fit_baseline",
    "make_task",
    "missing_task",
    "read_arrays",
    "read_figures",
    "read_predictions",
    "score",
    "tokens_agree",
    "try_task",
]

_HOME = {
    "agreement": ("tokens_agree",),
    "baselines": ("BASELINES", "Baseline", "fit_baseline"),
    "configs": ("EvaluateConfig", "EvaluateResult", "FinetuneConfig", "FinetuneResult"),
    "evaluating": ("evaluate",),
    "finetuning": ("finetune",),
    "logistic": ("Rows", "Setting"),
    "metrics": ("METRICS", "Score", "confusion", "score"),
    "products": ("EvaluationFigures", "read_arrays", "read_figures", "read_predictions"),
    "task": ("Task", "make_task", "missing_task", "try_task"),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    for module, names in _HOME.items():
        if name in names:
            value = getattr(importlib.import_module(f"emeg.evaluation.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
