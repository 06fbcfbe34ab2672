"""Create an objective by its name."""

from collections.abc import Mapping
from typing import Any

from emeg.models.interface import Objective
from emeg.plugins import blaming, create, find_plugin


def build_objective(name: str, options: Mapping[str, Any], *, encoder: Any) -> Objective:  # noqa: ANN401 - any encoder
    """Create an objective by its name and check that the encoder can be trained with it.

    Parameters
    ----------
    name : str
        Name of its entry point.
    options : mapping
        Parameters that differ from their defaults.
    encoder : Encoder

    Raises
    ------
    UserError
        No package registers the name, an option is refused, or the encoder lacks what the objective needs.
    """
    config = find_plugin("objective", name).config.checked(dict(options), source=f"objective {name}")
    objective: Objective = create("objective", name, Objective, config)
    with blaming("objective", name, "check"):
        objective.check(encoder)
    return objective
