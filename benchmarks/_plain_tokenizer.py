"""A straightforward BrainTokenizer that computes as the published code does: the baseline of `benchmarks.train_step`.

It has the same network, loss and running means as emeg's tokenizer, in float32 without compilation. Unlike emeg's:

* activations have the shape (row, feature, time), and all windows of all channels pass through SEANet at once;
* normalised weights are computed in every call, and sensor embeddings are copied to every step;
* each spectral term computes its own transforms, and codebook sums are products with one-hot matrices;
* the host checks for dead codes, and reads every term of the loss after each step.

Parameters have emeg's names, so that both sides start from the same values. Two parts come from emeg and not from the
published code, because the losses of both sides could not be compared without them: the correct initial and replacement
values of codebook sums, and the random draws of a step.

Shape letters: B batch, C channels, W windows, L samples in a window, S latent sources, T latent steps, D features.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from emeg.tokenizers.braintokenizer import BrainTokenizerConfig, TokenizerDraws


class Conv(nn.Module):
    """Reflect padding, then a convolution in time."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = weight_norm(nn.Conv1d(n_in, n_out, kernel, stride=stride))
        right = (kernel - stride) // 2
        self.pad = (kernel - stride - right, right)

    def forward(self, x: Tensor) -> Tensor:
        """Map (rows, n_in, time) to (rows, n_out, time / stride)."""
        return self.conv(F.pad(x, self.pad, mode="reflect"))


class TransposedConv(nn.Module):
    """Transposed convolution; the surplus samples at the ends are cut off."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.convtr = weight_norm(nn.ConvTranspose1d(n_in, n_out, 2 * stride, stride=stride))
        right = stride // 2
        self.cut = slice(stride - right, -right)

    def forward(self, x: Tensor) -> Tensor:
        """Map (rows, n_in, time) to (rows, n_out, time · stride)."""
        return self.convtr(x)[..., self.cut]


class Residual(nn.Module):
    """Residual block: two convolutions, and a pointwise one as the shortcut."""

    def __init__(self, n_dim: int) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.ELU(), Conv(n_dim, n_dim // 2, 3), nn.ELU(), Conv(n_dim // 2, n_dim, 1))
        self.shortcut = Conv(n_dim, n_dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (rows, n_dim, time) to the same shape."""
        return self.shortcut(x) + self.block(x)


class LSTM(nn.Module):
    """LSTM of two layers over (time, rows, n_dim), with a skip connection."""

    def __init__(self, n_dim: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_dim, n_dim, num_layers=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (rows, n_dim, time) to the same shape."""
        x = x.permute(2, 0, 1)
        return (self.lstm(x)[0] + x).permute(1, 2, 0)


class Seanet(nn.Module):
    """Sequence of layers."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers to all rows at once."""
        return self.model(x)


def seanet_encoder(c: BrainTokenizerConfig) -> Seanet:
    """Return the SEANet encoder: one channel in, `n_dim` features out."""
    layers: list[nn.Module] = [Conv(1, c.n_filters, c.kernel_size)]
    width = c.n_filters
    for stride in reversed(c.ratios):
        layers += [Residual(width), nn.ELU(), Conv(width, 2 * width, 2 * stride, stride)]
        width *= 2
    return Seanet([*layers, LSTM(width), nn.ELU(), Conv(width, c.n_dim, c.last_kernel_size)])


def seanet_decoder(c: BrainTokenizerConfig) -> Seanet:
    """Return the SEANet decoder: `n_dim` features in, one channel out."""
    width = c.n_filters * 2 ** len(c.ratios)
    layers: list[nn.Module] = [Conv(c.n_dim, width, c.kernel_size), LSTM(width)]
    for stride in c.ratios:
        layers += [nn.ELU(), TransposedConv(width, width // 2, stride), Residual(width // 2)]
        width //= 2
    return Seanet([*layers, nn.ELU(), Conv(width, 1, c.last_kernel_size)])


class SensorEmbedding(nn.Module):
    """Embedding of a sensor's position, orientation and type."""

    def __init__(self, n_dim: int) -> None:
        super().__init__()
        self.sensor_embedding_layer = nn.Embedding(3, n_dim)
        self.pos_embedding_layer = nn.Sequential(nn.Linear(6, n_dim // 2), nn.SELU(), nn.Linear(n_dim // 2, n_dim))
        self.aggregate_mlp = nn.ModuleDict(
            {"layer": nn.Sequential(nn.Linear(n_dim, 4 * n_dim), nn.SELU(), nn.Linear(4 * n_dim, n_dim))}
        )
        self.norm = nn.RMSNorm(n_dim, eps=1e-6)

    def forward(self, pos: Tensor, sensor_type: Tensor) -> Tensor:
        """Map positions (B, C, 6) and types (B, C) to embeddings (B, C, D)."""
        x = self.pos_embedding_layer(pos) + self.sensor_embedding_layer(sensor_type)
        return self.norm(x + self.aggregate_mlp["layer"](x))


def heads(x: Tensor, n: int) -> Tensor:
    """Reshape (rows, tokens, D) to (rows, heads, tokens, D / heads)."""
    return x.reshape(*x.shape[:-1], n, -1).transpose(1, 2)


def attention(query: Tensor, key: Tensor, value: Tensor, n: int) -> Tensor:
    """Compute attention with `n` heads."""
    out = F.scaled_dot_product_attention(heads(query, n), heads(key, n), heads(value, n))
    return out.transpose(1, 2).reshape(query.shape)


class Encoder(nn.Module):
    """Encoder from channels to latent sources."""

    def __init__(self, c: BrainTokenizerConfig) -> None:
        super().__init__()
        self.neuros = nn.Parameter(torch.randn(c.n_neuro, c.n_dim))
        self.seanet_encoder = seanet_encoder(c)
        self.k_proj = nn.Linear(c.n_dim, c.n_dim)
        self.backwardsolution = nn.ModuleDict({k: nn.Linear(c.n_dim, c.n_dim) for k in ("v", "proj")})
        self.n_head = c.n_head

    def forward(self, x: Tensor, sensor: Tensor) -> Tensor:
        """Map windows (B, C, W, L) to latents (B, S, W, T, D)."""
        b, c, n, _ = x.shape
        features = self.seanet_encoder(x.reshape(b * c * n, 1, -1))
        d, s = features.shape[1:]
        features = features.reshape(b, c, n, d, s).permute(0, 2, 4, 1, 3).reshape(b * n * s, c, d)
        sensors = sensor[:, None, None].repeat(1, n, s, 1, 1).reshape(b * n * s, c, d)
        query = self.neuros[None].repeat(b * n * s, 1, 1)
        key, value = self.k_proj(features + sensors), self.backwardsolution["v"](features)
        out = self.backwardsolution["proj"](attention(query, key, value, self.n_head))
        return out.reshape(b, n, s, -1, d).permute(0, 3, 1, 2, 4)


class Decoder(nn.Module):
    """Decoder from latent sources to channels."""

    def __init__(self, c: BrainTokenizerConfig) -> None:
        super().__init__()
        self.forwardsolution = nn.ModuleDict(
            {"kv": nn.Linear(c.n_dim, 2 * c.n_dim), "proj": nn.Linear(c.n_dim, c.n_dim)}
        )
        self.seanet_decoder = seanet_decoder(c)
        self.n_head = c.n_head

    def forward(self, latents: Tensor, sensor: Tensor) -> Tensor:
        """Map latents (B, S, W, T, D) to windows (B, C, W, L)."""
        b, q, n, s, d = latents.shape
        c = sensor.shape[1]
        key, value = self.forwardsolution["kv"](latents.permute(0, 2, 3, 1, 4).reshape(b * n * s, q, d)).chunk(2, -1)
        query = sensor[:, None, None].repeat(1, n, s, 1, 1).reshape(b * n * s, c, d)
        out = self.forwardsolution["proj"](attention(query, key, value, self.n_head))
        rows = out.reshape(b, n, s, c, d).permute(0, 3, 1, 4, 2).reshape(b * c * n, d, s)
        return self.seanet_decoder(rows).reshape(b, c, n, -1)


class Codebook(nn.Module):
    """Codebook updated by exponential moving averages."""

    inited: Tensor
    cluster_size: Tensor
    embed: Tensor
    embed_avg: Tensor

    def __init__(self, size: int, n_dim: int) -> None:
        super().__init__()
        for name, shape in (("inited", (1,)), ("cluster_size", (size,)), ("embed", (size, n_dim))):
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("embed_avg", torch.zeros(size, n_dim))

    @torch.no_grad()
    def forward(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Quantize vectors of shape (rows, D) and update the codebook."""
        distance = x.pow(2).sum(1, keepdim=True) - 2 * x @ self.embed.t() + self.embed.t().pow(2).sum(0, keepdim=True)
        codes = (-distance).max(dim=-1).indices
        one_hot = F.one_hot(codes, len(self.embed)).type(x.dtype)
        quantized = F.embedding(codes, self.embed)
        candidates = x[torch.randint(len(x), (len(self.embed),), generator=generator)]
        self.cluster_size.mul_(0.99).add_(one_hot.sum(0), alpha=0.01)
        self.embed_avg.mul_(0.99).add_((x.t() @ one_hot).t(), alpha=0.01)
        total = self.cluster_size.sum()
        smoothed = (self.cluster_size + 1e-6) / (total + len(self.embed) * 1e-6) * total
        self.embed.copy_(self.embed_avg / smoothed[:, None])
        bound = (0.5 * self.cluster_size.mean()).clamp(max=2.0)
        dead = self.cluster_size < bound
        if torch.any(dead):
            self.embed[dead] = candidates[dead]
            self.cluster_size[dead] = bound
            self.embed_avg[dead] = candidates[dead] * bound
        return quantized


class Quantizer(nn.Module):
    """Residual quantizer: each codebook quantizes what the one before left over."""

    def __init__(self, c: BrainTokenizerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Codebook(c.codebook_size, c.codebook_dim) for _ in range(c.num_quantizers))

    def forward(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return quantized features and the commitment loss."""
        residual, total, distances = F.normalize(x, dim=-1).reshape(-1, x.shape[-1]), 0, []
        for codebook in self.layers:
            quantized = codebook(residual, generator)
            distances.append(0.25 * F.mse_loss(residual, quantized))
            total = total + rotate(residual, quantized)
            residual = residual - quantized
        return total.reshape(x.shape), torch.stack(distances).mean()


def rotate(x: Tensor, onto: Tensor) -> Tensor:
    """Return `onto` with the gradient of the rotation trick (arXiv 2410.06424, section 4.2)."""
    u = (x / x.norm(dim=-1, keepdim=True).clamp(min=1e-6)).detach()
    v = (onto / onto.norm(dim=-1, keepdim=True).clamp(min=1e-6)).detach()
    w = F.normalize(u + v, dim=-1).detach()
    x_1 = x[:, None]
    out = x_1 - 2 * x_1 @ w[:, :, None] @ w[:, None] + 2 * x_1 @ u[:, :, None] @ v[:, None]
    scale = onto.norm(dim=-1, keepdim=True) / x.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    return out[:, 0] * scale.detach()


class Losses(NamedTuple):
    """Terms of a step's loss, as Python numbers."""

    total: float
    time: float
    pcc: float
    amplitude: float
    phase: float
    commitment: float


class PlainTokenizer(nn.Module):
    """The complete network. Codebook and latent sizes must be equal; padded channels are not supported."""

    def __init__(self, config: BrainTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.sensor_embed = SensorEmbedding(config.n_dim)
        self.encoder = Encoder(config)
        self.quantizer = Quantizer(config)
        self.decoder = Decoder(config)

    def losses(
        self,
        x: Tensor,
        pos: Tensor,
        sensor_type: Tensor,
        draws: TokenizerDraws,
        generator: torch.Generator,
        ramp: float,
    ) -> dict[str, Tensor]:
        """Compute the terms of the loss of a training step."""
        windows = x.unfold(-1, self.config.window_length, self.config.window_length)
        n_hidden = max(int(x.shape[1] * self.config.hidden_ratio), 1)
        seen = draws.channel_order[n_hidden:]
        sensor = self.sensor_embed(pos, sensor_type)
        noisy = windows[:, seen] + self.config.noise_std * draws.noise[:, seen]
        quantized, commitment = self.quantizer(self.encoder(noisy, sensor[:, seen]), generator)
        out = self.decoder(quantized, sensor)
        target = (windows - windows.mean(-1, keepdim=True)) / (windows.std(-1, keepdim=True) + 1e-6)
        terms = {
            "time": F.l1_loss(out, target),
            "pcc": correlation(out, target).mean(),
            "amplitude": F.l1_loss(spectrum(out).abs(), spectrum(target).abs()),
            "phase": F.l1_loss(spectrum(out).angle(), spectrum(target).angle()),
            "commitment": commitment,
        }
        shape = terms["time"] + terms["amplitude"] + 0.5 * terms["phase"]
        return {"total": ramp * shape + torch.exp(-terms["pcc"]) + commitment, **terms}


def spectrum(x: Tensor) -> Tensor:
    """Compute the real FFT after a Hamming taper."""
    return torch.fft.rfft(x * torch.hamming_window(x.shape[-1], dtype=x.dtype, device=x.device), norm="ortho")


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Compute the Pearson correlation over the last dimension."""
    a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    return (a * b).sum(-1) / (a.pow(2).sum(-1).sqrt() * b.pow(2).sum(-1).sqrt() + 1e-6)


def plain_step(
    model: PlainTokenizer,
    optimiser: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor, Tensor],
    draws: TokenizerDraws,
    generator: torch.Generator,
    ramp: float,
) -> Losses:
    """Run one training step and read every term of the loss on the host."""
    terms = model.losses(*batch, draws, generator, ramp)
    optimiser.zero_grad()
    terms["total"].backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    return Losses(**{name: value.item() for name, value in terms.items()})
