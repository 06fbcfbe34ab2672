"""Corpus, sampling plan, loader, token sets, task windows: what training and evaluation read.

catalogue + recordings ──shard──▶ corpus (tar, tables, manifest) ──▶ SamplingPlan ─▶ BatchReader ─▶ Loader ─▶ training
                    │                    └──tokenizer──▶ write_tokens ──▶ TokenSet ──▶ pretraining
                    └──events──▶ infer_task, task_windows, subject_folds ──▶ fine-tuning, evaluation

People are split, never segments. What a step sees is a pure function of (manifest hash, seed, epoch, step).
Everything here is numpy; names are loaded when first used.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
