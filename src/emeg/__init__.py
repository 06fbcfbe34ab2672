"""emeg: public EEG and MEG archives in, a foundation model of brain signals and its worth out.

archive → recordings → corpus → BrainTokenizer → tokens → BrainOmni → fine-tuned task → report
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emeg.inference import Embedder

__all__ = ["Embedder", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    """Import `Embedder` when it is first asked for: it needs torch and scikit-learn."""
    if name != "Embedder":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from emeg.inference import Embedder

    return Embedder
