"""What features of windows hold: of the label, of the subject, of the spectrum, and at which layer.

windows ──featurize──▶ features ──▶ linear probes, variance shares, erasure of subjects, diffusion entropy
windows ──perturb──▶ ──featurize──▶ features ──▶ the task again

`identity`, `variance`, `erasure`, `information` and `device_tokens` measure; `perturbations` changes signals; `run`
does all of it for one task. Public names are imported on first use.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
