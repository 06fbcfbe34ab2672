"""Continue prompts in physical units with a network and with a linear model.

Shape letters: B batch, C channels, N samples, S latent sources, T latent steps, Q quantizer levels.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from emeg.evaluation.generation.linear_model import continue_linearly, fit_linear_model
from emeg.evaluation.generation.prompts import Stretch

if TYPE_CHECKING:
    import torch


def average_reference(signal_CN: NDArray[np.floating[Any]], types: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Subtract the mean over the channels of each sensor type, as networks read signals: float64, the same shape.

    Parameters
    ----------
    signal_CN : float, shape (channels, samples)
        V, T or T/m.
    types : int, shape (channels,)
        Codes of sensor types.
    """
    out = np.asarray(signal_CN, np.float64).copy()
    for kind in np.unique(types):
        out[types == kind] -= out[types == kind].mean(axis=0)
    return out


def continue_with_network(
    network: Any,  # noqa: ANN401 - any encoder that continues codes
    stretch: Stretch,
    n_prompt: int,
    n_after: int,
    *,
    temperature: float,
    top_p: float,
    seed: int,
    device: "torch.device",
    hold_scale: bool = False,
    n_draws: int = 1,
) -> NDArray[np.float64]:
    """Continue the last samples of a stretch's past with a network, several times.

    The prompt alone is normalised, so that nothing of the future is used. Prompt and continuation are decoded together.

    Parameters
    ----------
    network : EncoderModule
        With ``continue_codes``.
    stretch : Stretch
    n_prompt, n_after : int
        Samples of the prompt and of the continuation, whole windows of the tokenizer.
    temperature, top_p : float
        See `GenerateConfig`.
    seed : int
    device : torch.device
    hold_scale : bool
        See `GenerateConfig`.
    n_draws : int
        Continuations.

    Returns
    -------
    float64, shape (n_draws, channels, n_after)
        V, T or T/m, average reference.
    """
    import torch

    from emeg.models import Sources
    from emeg.tokenizers.braintokenizer import normalise_signal

    tokenizer, sensors = network.tokenizer, stretch.sensors
    prompt = np.ascontiguousarray(stretch.before[:, -n_prompt:])
    types = torch.from_numpy(sensors.types.astype(np.int64))[None].to(device)
    pos = torch.from_numpy(sensors.model_positions())[None].to(device)
    with torch.inference_mode():
        x_BCN = normalise_signal(torch.from_numpy(prompt)[None].to(device), types)
        codes = tokenizer.tokenize(x_BCN, pos, types).codes.expand(n_draws, -1, -1, -1)
        pos, types = pos.expand(n_draws, -1, -1), types.expand(n_draws, -1)
        sources = None
        if tokenizer.sizes.n_sources is None:
            sources = Sources(pos, types, torch.ones_like(types, dtype=torch.bool))
        made = network.continue_codes(
            codes,
            tokenizer.steps_of(n_after),
            generator=torch.Generator().manual_seed(seed),
            temperature=temperature,
            top_p=top_p,
            sources=sources,
            **({"hold_scale": True} if hold_scale else {}),  # encoders of other packages may not know it
        )
        decoded = tokenizer.decode(torch.cat([codes, made], dim=2), pos, types)[..., n_prompt : n_prompt + n_after]
    scale = _scale(prompt, x_BCN[0].double().cpu().numpy(), sensors.types)
    return np.asarray(decoded.double().cpu().numpy() * scale[:, None])


def _scale(
    prompt_CN: NDArray[np.float32], normalised_CN: NDArray[np.float64], types: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Return the unit of the normalised signal for every channel, V, T or T/m."""
    centred = average_reference(prompt_CN, types)
    scale = np.ones(len(types))
    for kind in np.unique(types):
        own = types == kind
        norm = float(np.linalg.norm(normalised_CN[own]))
        scale[own] = float(np.linalg.norm(centred[own])) / norm if norm > 0 else 1.0
    return scale


def continue_with_linear_model(
    stretch: Stretch,
    n_prompt: int,
    n_after: int,
    *,
    order: int,
    seed: int,
    n_draws: int = 1,
    fitted_to: Stretch | None = None,
) -> NDArray[np.float64]:
    """Continue the same prompt with a vector autoregression, for each sensor type, several times.

    Parameters
    ----------
    stretch : Stretch
    n_prompt, n_after : int
        Samples of the prompt and of the continuation.
    order : int
        Largest order.
    seed : int
    n_draws : int
        Continuations.
    fitted_to : Stretch, optional
        Stretch with the same sensors, to whose prompt the model is fitted, in standard deviations; by default it is
        fitted to the prompt that it continues.

    Returns
    -------
    float64, shape (n_draws, channels, n_after)
        V, T or T/m, average reference.
    """
    types = stretch.sensors.types
    prompt = average_reference(stretch.before[:, -n_prompt:], types)
    other = None if fitted_to is None else average_reference(fitted_to.before[:, -n_prompt:], types)
    made = np.empty((n_draws, len(types), n_after))
    generator = np.random.default_rng(seed)
    for kind in np.unique(types):
        own = types == kind
        unit = float(prompt[own].std()) or 1.0
        fitted = prompt[own] / unit if other is None else other[own] / (float(other[own].std()) or 1.0)
        model = fit_linear_model(fitted, order)
        for draw in range(n_draws):
            made[draw, own] = continue_linearly(model, prompt[own] / unit, n_after, generator) * unit
    return made
