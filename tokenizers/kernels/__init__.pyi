from .config import KernelsConfig as KernelsConfig
from .model import Kernels as Kernels
from .model import KernelsLosses as KernelsLosses
