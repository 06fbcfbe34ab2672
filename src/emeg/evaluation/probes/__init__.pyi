from .erasure import LinearEraser as LinearEraser
from .identity import IdentityProbe as IdentityProbe, probe_identity as probe_identity
from .information import (
    diffusion_entropy as diffusion_entropy,
    diffusion_information as diffusion_information,
    gaussian_information as gaussian_information,
)
from .perturbations import PERTURBATIONS as PERTURBATIONS
from .run import Probed as Probed, run_probes as run_probes, score_task as score_task
from .device_tokens import (
    DeviceWindows as DeviceWindows,
    TokenAgreement as TokenAgreement,
    Tokens as Tokens,
    compare_tokens as compare_tokens,
    token_agreement as token_agreement,
    tokens_of as tokens_of,
)
from .variance import VarianceShare as VarianceShare, share_of_variance as share_of_variance
