"""What a model is worth on people that nothing has seen, beside what simpler things are worth.

corpus (held-out people) + model ──finetune──▶ models/<finetuned>/  predictions.parquet, histories.parquet
finetuned + corpus + tokens ──evaluate──▶ evaluations/<evaluation>/ figures.json, figures.parquet,
                                          predictions.parquet, reconstruction.npz ──▶ reports

A task's people are those whom the corpus holds out: neither tokenizer nor BrainOmni was trained on them. Every
contestant is fitted on the same training people of a fold, chooses its settings on the same validation people, and is
tested once on people that appear in neither. `emeg.evaluation.products` describes every file. Names are loaded when
first used.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
