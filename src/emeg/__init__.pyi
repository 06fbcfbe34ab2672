from .inference import Decoder as Decoder, Embedder as Embedder

__version__: str
