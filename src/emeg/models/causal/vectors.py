"""What the codes before a token stand for, as input of a network, and output weights of each level.

codes before a token ──tokenizer──▶ code vectors ──sum──▶ latent of the step before, own latent so far ──▶ input

Shape letters: B batch, N tokens, D features, Q quantizer levels, K codes.
"""

from math import sqrt

import torch
from torch import Tensor, nn

from emeg.tokenizers.interface import Tokenizer


def vectors_of_codes(tokenizer: Tokenizer) -> Tensor:
    """Return what each code adds to a latent, relative to code 0: float32, shape (levels, codes, n_dim).

    Parameters
    ----------
    tokenizer : Tokenizer
        Features are sums over levels.
    """
    sizes = tokenizer.sizes
    codes = torch.zeros(sizes.n_levels, sizes.n_codes, sizes.n_levels, dtype=torch.int64)
    for level in range(sizes.n_levels):
        codes[level, :, level] = torch.arange(sizes.n_codes)
    device = next(tokenizer.parameters()).device if isinstance(tokenizer, nn.Module) else None
    features = tokenizer.features_from_codes(codes.to(device))
    return features - features[:, :1]


class ReadVectors(nn.Module):
    """Project the latent of the same source one step earlier, and that of the levels of a token before its own.

    Parameters
    ----------
    n_dim : int
        Features of a latent.
    width : int
        Features of a token.
    """

    def __init__(self, n_dim: int, width: int) -> None:
        super().__init__()
        self.scale = sqrt(n_dim)  # features have length 1, inputs of the network a mean square of 1
        self.project = nn.Linear(2 * n_dim, width, bias=False)
        nn.init.normal_(self.project.weight, std=1 / sqrt(n_dim))

    def forward(self, codes_BN: Tensor, vectors_QKD: Tensor, in_step: int, tokens: slice = slice(None)) -> Tensor:
        """Return what some tokens read: float, shape (batch, tokens, width).

        Parameters
        ----------
        codes_BN : int64, shape (batch, tokens)
            Codes in the order of the sequence. Only codes before a token are read.
        vectors_QKD : float32, shape (levels, codes, n_dim)
            Output of `vectors_of_codes`, dimensionless.
        in_step : int
            Sources of a latent step in the sequence.
        tokens : slice
            Tokens to return.
        """
        n_levels = len(vectors_QKD)
        index = torch.arange(codes_BN.shape[1], device=codes_BN.device)[tokens]
        first, last = int(index[0]) // n_levels, int(index[-1]) // n_levels + 1
        start = max(0, first - in_step)
        cells = torch.unflatten(codes_BN[:, start * n_levels : last * n_levels], 1, (-1, n_levels))
        summed = vectors_QKD[torch.arange(n_levels, device=cells.device), cells].cumsum(dim=2)
        before = nn.functional.pad(summed[:, :, -1], (0, 0, in_step - (first - start), 0))[:, : last - first]
        own = nn.functional.pad(summed[:, first - start :, :-1], (0, 0, 1, 0))
        both = torch.cat([before[:, :, None].expand_as(own), own], dim=-1).flatten(1, 2)
        read: Tensor = self.project(self.scale * both[:, index - first * n_levels].to(self.project.weight.dtype))
        return read


class LevelHead(nn.Module):
    """A linear layer of its own for each level, which begins with logits of 0.

    Parameters
    ----------
    width : int
        Features of a token.
    n_levels, n_codes : int
        Sizes of the tokens.
    """

    def __init__(self, width: int, n_levels: int, n_codes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_levels, n_codes, width))
        self.bias = nn.Parameter(torch.zeros(n_levels, n_codes))

    def forward(self, hidden_BND: Tensor, level_BN: Tensor) -> Tensor:
        """Return the logits of tokens: float, shape (batch, tokens, codes).

        Parameters
        ----------
        hidden_BND : float, shape (batch, tokens, width)
            Dimensionless features of one token, or of all levels of some latents in their order.
        level_BN : int64, shape (batch, tokens)
            Level of each token, dimensionless.
        """
        if hidden_BND.shape[1] == 1:
            own = self.weight[level_BN[:, 0]]
            return torch.einsum("bnd,bkd->bnk", hidden_BND, own) + self.bias[level_BN]
        by_level = torch.unflatten(hidden_BND, 1, (-1, len(self.weight)))
        return (torch.einsum("bnqd,qkd->bnqk", by_level, self.weight) + self.bias).flatten(1, 2)
