from .configs import GenerateConfig as GenerateConfig, GenerateResult as GenerateResult
from .products import GenerationSummary as GenerationSummary, read_generation as read_generation
from .run import generate as generate
