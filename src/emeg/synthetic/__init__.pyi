from .archive import synthesize as synthesize
from .config import SynthesizeConfig as SynthesizeConfig, SynthesizeResult as SynthesizeResult
