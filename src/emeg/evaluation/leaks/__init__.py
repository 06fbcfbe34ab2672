"""Checks that run before any figure is computed, and stop an evaluation whose test windows were seen.

Setup (windows, sides, fingerprints, what the model was trained on) ──run_checks──▶ checks ──stop_on_leaks──▶ error

`people`, `content` and `labels` hold the checks, `isolation` tests a fitting procedure as a black box, and `gather`
collects a `Setup` from a store. Public names are imported on first use.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
