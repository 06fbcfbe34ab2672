"""Hide all channels of drawn brain regions in a training step.

Shape letters: B batch, C channels.
"""

import torch
from torch import Tensor

from emeg.tokenizers.braintokenizer.draws import Seen


def hide_regions(order: Tensor, region_BC: Tensor, real_BC: Tensor | None, ratio: float) -> Seen:
    """Choose the channels that the encoder sees when whole regions are hidden.

    Regions are drawn one after another, a region with many channels more often, and hidden as long as at most
    ⌊ratio · C⌋ real channels are hidden. The first region is hidden whatever its size, unless it is the only one of its
    sample: then its first channels are hidden, as `hide_channels` does. A channel without a region is a region of its
    own.

    Parameters
    ----------
    order : int64, shape (channels,) or (batch, channels)
        Permutation of the channel indices; a region is drawn when its first channel comes.
    region_BC : any, shape (batch, channels)
        Index of each channel's region; 0 unknown.
    real_BC : bool, shape (batch, channels), optional
        True for real channels. None: all are real.
    ratio : float
        Share of the channels to hide.

    Returns
    -------
    Seen
        As `hide_channels` returns it: no real channel of a hidden region is among the visible ones.
    """
    n_channels = region_BC.shape[1]
    order_BC = order.expand(region_BC.shape)
    real_BC = torch.ones_like(region_BC, dtype=torch.bool) if real_BC is None else real_BC
    # everything below is in drawn order
    real_BC = real_BC.gather(1, order_BC)
    own = -1 - torch.arange(n_channels, device=order.device)
    region_BC = torch.where(region_BC == 0, own, region_BC.long()).gather(1, order_BC)
    same_BCC = (region_BC[:, :, None] == region_BC[:, None, :]) & real_BC[:, None, :]
    position = torch.arange(n_channels, device=order.device)
    drawn_BC = torch.where(same_BCC, position, n_channels).amin(dim=2)
    up_to_BC = ((drawn_BC[:, None, :] <= drawn_BC[:, :, None]) & real_BC[:, None, :]).sum(dim=2)
    n_real = real_BC.sum(dim=1, keepdim=True)
    most = (n_real * ratio).floor().long().clamp(min=1)
    first = torch.where(real_BC, drawn_BC, n_channels).amin(dim=1, keepdim=True)
    by_region_BC = ((up_to_BC <= most) | (drawn_BC == first)) & real_BC
    by_channel_BC = real_BC & (real_BC.cumsum(dim=1) <= torch.minimum(most, n_real - 1))
    is_only_one = by_region_BC.sum(dim=1, keepdim=True) == n_real
    seen_BC = real_BC & ~torch.where(is_only_one, by_channel_BC, by_region_BC)
    n_most = int(seen_BC.sum(dim=1).max())
    seen_first = seen_BC.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :n_most]
    return Seen(order_BC.gather(1, seen_first), seen_BC.gather(1, seen_first))
