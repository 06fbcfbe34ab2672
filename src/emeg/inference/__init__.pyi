from .decoder import Decoder as Decoder
from .embedding import Embedder as Embedder
from .online import OnlineConfig as OnlineConfig, OnlineEncoder as OnlineEncoder, TokenWindow as TokenWindow
