"""The blocks of the cross-scale encoder, for features of any sensors with known positions.

Shape letters: B batch, C channels, S sources or channels, T latent steps, D features.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from emeg.models.crossscale.config import CrossScaleConfig
from emeg.models.crossscale.layers import CrossScaleBlock, RegionKernels, StepKernels
from emeg.models.crossscale.regions import SensorLayout, find_layout
from emeg.models.rotary import Rotary, rotary_tables
from emeg.tokenizers.braintokenizer.layers import NORM_EPS, RMSNorm


class CrossScaleBlocks(nn.Module):
    """Kernels over steps and regions, shared by all blocks, before each block.

    The number of parameters depends on no number of sensors, and a permutation of the sensors permutes the result.

    Parameters
    ----------
    config : CrossScaleConfig
    """

    def __init__(self, config: CrossScaleConfig) -> None:
        super().__init__()
        self.config = config
        self.step_norm = RMSNorm(config.n_dim, eps=NORM_EPS)
        self.step_kernels = StepKernels(config.n_dim, config.step_kernels)
        self.region_kernel_norm = RMSNorm(config.n_dim, eps=NORM_EPS)
        self.region_kernels = RegionKernels(config.n_dim)
        self.blocks = nn.ModuleList(
            CrossScaleBlock(config.n_dim, config.n_head, config.window_steps, config.dropout)
            for _ in range(config.depth)
        )
        self.checkpointing = False

    def forward(
        self,
        x_BSTD: Tensor,
        pos: Tensor,
        channel_mask: Tensor | None = None,
        *,
        blocks: range | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Run blocks.

        Parameters
        ----------
        x_BSTD : float, shape (batch, sensors, steps, features)
            Dimensionless features.
        pos : float, shape (batch, sensors, 3 or more)
            Normalised positions (right, front, up) and what follows them, dimensionless.
        channel_mask : bool, shape (batch, sensors), optional
            True for real sensors. The others change nothing.
        blocks : range, optional
            Blocks to run; all if omitted.
        generator : torch.Generator, optional
            Source of the dropout draws.

        Returns
        -------
        float, shape (batch, sensors, steps, features)
        """
        layout = find_layout(pos, self.config.region_widths, channel_mask)
        n_windows = -(-x_BSTD.shape[2] // self.config.window_steps)
        rotary = rotary_tables(n_windows, self.config.n_dim, mode="complex", device=x_BSTD.device)
        chosen = range(self.config.depth) if blocks is None else blocks
        for index in chosen:
            layer = self._layer(index, layout, rotary, generator)
            if self.checkpointing and self.training and torch.is_grad_enabled() and generator is None:
                x_BSTD = checkpoint(layer, x_BSTD, use_reentrant=False)
            else:
                x_BSTD = layer(x_BSTD)
        return x_BSTD

    def _layer(
        self, index: int, layout: SensorLayout, rotary: Rotary, generator: torch.Generator | None
    ) -> Callable[[Tensor], Tensor]:
        def run(x_BSTD: Tensor) -> Tensor:
            x_BSTD = x_BSTD + self.step_kernels(self.step_norm(x_BSTD))
            x_BSTD = x_BSTD + self.region_kernels(self.region_kernel_norm(x_BSTD), layout)
            out: Tensor = self.blocks[index](x_BSTD, layout, rotary, generator)
            return out

        return run
