"""Training: a corpus becomes a BrainTokenizer, its tokens a BrainOmni, a task's windows a classifier.

corpus ──train_tokenizer──▶ models/<tokenizer> ──tokenize──▶ tokens ──pretrain──▶ models/<brainomni>
                                                     task windows ──finetune_fold──▶ probabilities

The two trainings run in processes of their own (`launch`), where Lightning drives them; `fit_tokenizer` and
`fit_pretraining` are what runs there. Names are loaded when first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emeg.training.configs import (
        FinetuneRecipe,
        OptimiserConfig,
        PretrainConfig,
        TokenizeConfig,
        TokenizeResult,
        TrainResult,
        TrainTokenizerConfig,
    )
    from emeg.training.diagnosis import DoctorConfig, DoctorResult, doctor
    from emeg.training.finetuning import FoldIndices, FoldOutcome, Windows, finetune_fold, in_memory
    from emeg.training.launching import launch
    from emeg.training.planning import PlanConfig, PlanResult, plan_training
    from emeg.training.pretraining import fit_pretraining
    from emeg.training.schedule import draw_seed, loss_ramp, lr_factor
    from emeg.training.tokenizer import fit_tokenizer
    from emeg.training.tokenizing import tokenize
    from emeg.training.verbs import pretrain, train_tokenizer

__all__ = [
    "DoctorConfig",
    "DoctorResult",
    "FinetuneRecipe",
    "FoldIndices",
    "FoldOutcome",
    "OptimiserConfig",
    "PlanConfig",
    "PlanResult",
    "PretrainConfig",
    "TokenizeConfig",
    "TokenizeResult",
    "TrainResult",
    "TrainTokenizerConfig",
    "Windows",
    "doctor",
    "draw_seed",
    "finetune_fold",
    "fit_pretraining",
    "fit_tokenizer",
    "in_memory",
    "launch",
    "loss_ramp",
    "lr_factor",
    "plan_training",
    "pretrain",
    "tokenize",
    "train_tokenizer",
]

_HOME = {
    "configs": (
        "FinetuneRecipe",
        "OptimiserConfig",
        "PretrainConfig",
        "TokenizeConfig",
        "TokenizeResult",
        "TrainResult",
        "TrainTokenizerConfig",
    ),
    "diagnosis": ("DoctorConfig", "DoctorResult", "doctor"),
    "finetuning": ("FoldIndices", "FoldOutcome", "Windows", "finetune_fold", "in_memory"),
    "launching": ("launch",),
    "planning": ("PlanConfig", "PlanResult", "plan_training"),
    "pretraining": ("fit_pretraining",),
    "schedule": ("draw_seed", "loss_ramp", "lr_factor"),
    "tokenizer": ("fit_tokenizer",),
    "tokenizing": ("tokenize",),
    "verbs": ("pretrain", "train_tokenizer"),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    for module, names in _HOME.items():
        if name in names:
            value = getattr(importlib.import_module(f"emeg.training.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
