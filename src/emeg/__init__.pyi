from .inference import Embedder as Embedder

__version__: str
