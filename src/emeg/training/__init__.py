"""Train a BrainTokenizer on a corpus, a BrainOmni on its tokens, and a classifier on the windows of a task.

corpus ──train_tokenizer──▶ models/<tokenizer> ──tokenize──▶ tokens ──pretrain──▶ models/<brainomni>
                                                     task windows ──finetune_fold──▶ probabilities

The two trainings run under Lightning in separate processes (`launch`), which call `fit_tokenizer` and
`fit_pretraining`. Names are loaded when first used.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
