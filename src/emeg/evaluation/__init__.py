"""Evaluate a model on subjects that no training stage has seen, beside simpler models.

corpus (held-out subjects) + model ──finetune──▶ models/<finetuned>/  predictions.parquet, histories.parquet
finetuned + corpus + tokens ──evaluate──▶ evaluations/<evaluation>/ figures.json, figures.parquet,
                                          predictions.parquet, reconstruction.npz ──▶ reports

The subjects of a task are those that the corpus holds out: neither the tokenizer nor BrainOmni was trained on them.
All models are fitted on the same training subjects of a fold, choose their settings on the same validation
subjects, and are tested once on subjects that appear in neither. `emeg.evaluation.products` describes every file.
Public names are imported on first use.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
