"""What training and evaluation read: corpus, sampling plan, loader, token sets and task windows.

catalogue + recordings ──shard──▶ corpus (tar, tables, manifest) ──▶ SamplingPlan ─▶ BatchReader ─▶ Loader ─▶ training
                    │                    └──tokenizer──▶ write_tokens ──▶ TokenSet ──▶ pretraining
                    └──events──▶ infer_task, task_windows, subject_folds ──▶ fine-tuning, evaluation

Subjects are split, never segments. What a step reads is a pure function of (manifest hash, seed, epoch, step).
Everything here is numpy. Public names are imported on first use.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
