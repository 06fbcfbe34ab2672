"""The small BrainOmni that folds are fitted to."""

from tests.small_models import model  # noqa: F401 - a fixture for the folder
