"""Divide the windows of a task into training, validation and test.

windows ──rule of the recipe, or folds of the release──▶ SplitManifest ──▶ parts: windows to fit, windows to predict

Public names are imported on first use.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
