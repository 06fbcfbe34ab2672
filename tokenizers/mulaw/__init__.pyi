from .config import MuLawConfig as MuLawConfig
from .companding import MuLaw as MuLaw
