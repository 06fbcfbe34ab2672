"""One thread for the networks of this folder."""

from tests.small_models import one_thread  # noqa: F401 - a fixture for the folder
