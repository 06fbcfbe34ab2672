"""Positions of latent sources: where on the head the sensors are that a source attends to.

Shape letters: C channels, S latent sources, D features.
"""

from math import pi

import torch
from torch import Tensor
from torch.nn import functional as F

from emeg.tokenizers.braintokenizer.attention import split_heads
from emeg.tokenizers.braintokenizer.model import BrainTokenizer
from emeg.tokenizers.interface import Tokenizer

N_SENSORS = 256
"""Sensors of the imagined cap on which sources are located."""
LOWEST = -0.4
"""Height of its lowest sensors on the unit sphere."""


def imagine_cap(n_sensors: int = N_SENSORS) -> Tensor:
    """Return sensors that cover a cap evenly, as normalised input of a tokenizer: float32, shape (channels, 7)."""
    number = torch.arange(n_sensors, dtype=torch.float32)
    up = 1.0 - (1.0 - LOWEST) * (number + 0.5) / n_sensors
    angle = number * pi * (3.0 - 5.0**0.5)  # golden angle
    across = (1.0 - up.square()).clamp(min=0.0).sqrt()
    points_CD = torch.stack([across * angle.cos(), across * angle.sin(), up], dim=-1)
    centred_CD = points_CD - points_CD.mean(dim=0)
    scaled_CD = centred_CD / centred_CD.square().sum(dim=-1).mean().sqrt()
    return F.pad(scaled_CD, (0, 4))  # no orientation, as for EEG, and no known brain region


@torch.no_grad()
def locate_sources(tokenizer: Tokenizer) -> Tensor:
    """Return a position for each latent source: float32, shape (sources, 3).

    For a BrainTokenizer it is the mean position of an imagined EEG cap, weighted by the attention that a source pays to
    sensors because of their positions; the positions are centred and scaled like those of sensors. The sources of other
    tokenizers have no known position and are spread evenly over the cap, in their order.

    Parameters
    ----------
    tokenizer : Tokenizer
        Tokenizer with the same number of latent sources for every device.
    """
    if not isinstance(tokenizer, BrainTokenizer):
        return imagine_cap(tokenizer.sizes.n_sources or 1)[:, :3]
    encoder = tokenizer.encoder
    cap_CD = imagine_cap().to(encoder.neuros.device)
    was_training = tokenizer.training
    tokenizer.eval()
    sensor_CD = tokenizer.sensor_embed(
        cap_CD[None], torch.zeros(1, len(cap_CD), dtype=torch.long, device=cap_CD.device)
    )
    tokenizer.train(was_training)
    query = split_heads(encoder.neuros.float()[None], encoder.n_head)
    key = split_heads(encoder.k_proj(sensor_CD).float(), encoder.n_head)
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    found_SD = scores.softmax(dim=-1).mean(dim=1)[0] @ cap_CD[:, :3]
    centred_SD = found_SD - found_SD.mean(dim=0)
    return F.normalize(centred_SD, dim=-1)
