"""Training: a corpus becomes a BrainTokenizer, its tokens a BrainOmni, a task's windows a classifier.

corpus ──train_tokenizer──▶ models/<tokenizer> ──tokenize──▶ tokens ──pretrain──▶ models/<brainomni>
                                                     task windows ──finetune_fold──▶ probabilities

The two trainings run in processes of their own (`launch`), where Lightning drives them; `fit_tokenizer` and
`fit_pretraining` are what runs there. Names are loaded when first used.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
