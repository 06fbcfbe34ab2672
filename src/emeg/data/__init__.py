"""Corpus, sampling plan, loader, token sets, task windows: what training and evaluation read.

catalogue + recordings ──shard──▶ corpus (tar, tables, manifest) ──▶ SamplingPlan ─▶ BatchReader ─▶ Loader ─▶ training
                    │                    └──tokenizer──▶ write_tokens ──▶ TokenSet ──▶ pretraining
                    └──events──▶ infer_task, task_windows, subject_folds ──▶ fine-tuning, evaluation

People are split, never segments. What a step sees is a pure function of (manifest hash, seed, epoch, step).
Everything here is numpy; names are loaded when first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emeg.data.batch import Batch, Sample, StoredBatch, collate
    from emeg.data.caching import CacheConfig, CacheResult, cache
    from emeg.data.corpus import Corpus, Segment
    from emeg.data.folds import Fold, Folds, subject_folds
    from emeg.data.loader import LoadedBatch, Loader
    from emeg.data.plan import (
        MicroBatch,
        SamplingConfig,
        SamplingPlan,
        SamplingState,
        Share,
        n_in_pairs,
        numbers_of,
    )
    from emeg.data.reading import BatchReader, ShareReader
    from emeg.data.shard_cache import ShardCache
    from emeg.data.sharding import ShardConfig, ShardResult, shard
    from emeg.data.split import split_subjects
    from emeg.data.tasks import TaskConfig, infer_task
    from emeg.data.tokens import TokenSet, tokens_name, write_tokens
    from emeg.data.windows import TaskWindows, task_windows

__all__ = [
    "Batch",
    "BatchReader",
    "CacheConfig",
    "CacheResult",
    "Corpus",
    "Fold",
    "Folds",
    "LoadedBatch",
    "Loader",
    "MicroBatch",
    "Sample",
    "SamplingConfig",
    "SamplingPlan",
    "SamplingState",
    "Segment",
    "ShardCache",
    "ShardConfig",
    "ShardResult",
    "Share",
    "ShareReader",
    "StoredBatch",
    "TaskConfig",
    "TaskWindows",
    "TokenSet",
    "cache",
    "collate",
    "infer_task",
    "n_in_pairs",
    "numbers_of",
    "shard",
    "split_subjects",
    "subject_folds",
    "task_windows",
    "tokens_name",
    "write_tokens",
]

_HOME = {
    "batch": ("Batch", "Sample", "StoredBatch", "collate"),
    "caching": ("CacheConfig", "CacheResult", "cache"),
    "corpus": ("Corpus", "Segment"),
    "folds": ("Fold", "Folds", "subject_folds"),
    "loader": ("LoadedBatch", "Loader"),
    "plan": (
        "MicroBatch",
        "SamplingConfig",
        "SamplingPlan",
        "SamplingState",
        "Share",
        "n_in_pairs",
        "numbers_of",
    ),
    "reading": ("BatchReader", "ShareReader"),
    "shard_cache": ("ShardCache",),
    "sharding": ("ShardConfig", "ShardResult", "shard"),
    "split": ("split_subjects",),
    "tasks": ("TaskConfig", "infer_task"),
    "tokens": ("TokenSet", "tokens_name", "write_tokens"),
    "windows": ("TaskWindows", "task_windows"),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    for module, names in _HOME.items():
        if name in names:
            value = getattr(importlib.import_module(f"emeg.data.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
