from .config import BrainTokenizerConfig as BrainTokenizerConfig, PRESETS as PRESETS
from .equaliser import Equaliser as Equaliser, PowerSum as PowerSum, sum_power as sum_power
from .draws import TokenizerDraws as TokenizerDraws, draw_tokenizer_step as draw_tokenizer_step
from .losses import TokenizerLosses as TokenizerLosses, correlation as correlation, pcc as pcc, target as target
from .model import BrainTokenizer as BrainTokenizer, Tokens as Tokens
from .normalise import normalise_signal as normalise_signal
from .quantization.residual import CodebookUse as CodebookUse, codebook_use as codebook_use
from .parameters import parameter_groups as parameter_groups
