"""Memory that a rank needs besides activations, and whether a network has to be sharded for it."""

from typing import Literal, NamedTuple

import torch

from emeg.data import n_in_pairs
from emeg.models import EncoderModule
from emeg.plugins import create
from emeg.store import Store, model_config
from emeg.tokenizers.interface import build_tokenizer
from emeg.training.configs import PretrainConfig, TrainTokenizerConfig
from emeg.training.product_names import encoder_network, tokenizer_network
from emeg.training.scaling import STATE_SHARE

FLOAT = 4
"""Bytes of a number; weights, gradients and moments are float32 in either arithmetic."""

Strategy = Literal["ddp", "fsdp2", "hybrid"]


class StateMemory(NamedTuple):
    """Bytes of the state of one rank by strategy."""

    ddp: int
    fsdp2: int
    hybrid: int

    def choose(self, memory_bytes: float, *, nodes: int) -> Strategy:
        """Return the strategy with the least communication whose state fits; fsdp2 if none does.

        Parameters
        ----------
        memory_bytes : float
            Memory of a GPU, bytes.
        nodes : int
            Machines.
        """
        if self.ddp <= STATE_SHARE * memory_bytes:
            return "ddp"
        return "hybrid" if nodes > 1 and self.hybrid <= STATE_SHARE * memory_bytes else "fsdp2"


def state_memory(n_parameters: int, *, ranks: int, nodes: int, micro_batches: int) -> StateMemory:
    """Compute the bytes of weights, gradients and AdamW's two moments on one rank.

    Parameters
    ----------
    n_parameters : int
        Parameters that are trained.
    ranks : int
        Ranks on all machines.
    nodes : int
        Machines.
    micro_batches : int
        Micro-batches of a step, over all ranks.
    """
    share = micro_batches // ranks
    n_groups, _ = n_in_pairs(share)
    partial_sums = n_groups.bit_length() - 1  # of the tree in which a rank adds its micro-batches
    buckets = int(ranks > 1)
    whole = n_parameters * FLOAT
    sharded_gradients = whole if share > 1 else 0  # added without communication, and therefore whole
    return StateMemory(
        ddp=whole * (1 + 1 + partial_sums + buckets + 2),
        fsdp2=4 * whole // ranks + sharded_gradients,
        hybrid=4 * whole // (ranks // nodes) + sharded_gradients,
    )


def count_parameters(store: Store, training: TrainTokenizerConfig | PretrainConfig, tokenizer: str | None) -> int:
    """Count the trained parameters of a training's network, without memory for them.

    Parameters
    ----------
    store : Store
    training : TrainTokenizerConfig or PretrainConfig
    tokenizer : str, optional
        Model whose codes an encoder predicts; a BrainTokenizer of the default size if it is not in the store.
    """
    with torch.device("meta"):
        if isinstance(training, TrainTokenizerConfig):
            trained = build_tokenizer(training.tokenizer, tokenizer_network(training), source="overrides")
            return sum(p.numel() for p in trained.parameters())
        is_there = tokenizer is not None and store.has("models", tokenizer)
        stored = model_config(store, str(tokenizer)) if is_there else {}
        kind, sizes = stored.get("kind", "braintokenizer"), stored.get("config", {})
        frozen_tokenizer = build_tokenizer(kind, sizes, source=f"model {tokenizer}")
        network: EncoderModule = create(
            "encoder", training.encoder, EncoderModule, encoder_network(training), frozen_tokenizer
        )
        frozen = sum(p.numel() for p in frozen_tokenizer.parameters())
        return sum(p.numel() for p in network.parameters()) - frozen
