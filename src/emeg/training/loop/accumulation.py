"""Add the gradients of a step in the same pairs for any number of ranks.

Floating-point sums depend on their order: one rank that adds four micro-batches one after another, and two ranks that
add two each, differ in the last bit. A latent near the border of two codes may then get the other code, which changes
the codebooks. Sums along one tree do not differ. `emeg.data.numbers_of` gives a rank its micro-batches in an
order in which the tree needs few partial sums at a time: one copy of the gradients for four micro-batches of a rank,
two for eight.
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, distributed
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.futures import Future
from torch.nn import Parameter
from torch.nn.parallel import DistributedDataParallel

from emeg.data import n_in_pairs


class GradientTree:
    """Partial sums of the micro-batches that a rank has had in a step.

    Parameters
    ----------
    parameters : iterable of Parameter
    n : int
        Micro-batches of this rank in a step.
    """

    def __init__(self, parameters: Iterable[Parameter], n: int) -> None:
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._n = n
        self._n_groups, self._per_group = n_in_pairs(n)
        self._partial: list[dict[Tensor, Tensor]] = []
        self._n_done = 0
        self._exchanged = False

    def follow(self, model: DistributedDataParallel) -> None:
        """Add partial sums to what `model` sends to the other ranks, in its last backward of a step."""
        if self._n_groups > 1:
            model.register_comm_hook(None, self._exchange)
            self._exchanged = True

    def after_backward(self) -> None:
        """Store the sum of a finished group, or finish the step."""
        self._n_done = (self._n_done + 1) % self._n
        if self._n_done:
            if self._n_done % self._per_group == 0:
                self._keep(self._n_done // self._per_group)
            return
        if not self._exchanged:
            for parameter in self._parameters:
                if parameter.grad is not None:
                    self._complete(parameter, parameter.grad)
        self._partial = []

    def _keep(self, n_groups: int) -> None:
        part: dict[Tensor, Tensor] = {}
        for parameter in self._parameters:
            if parameter.grad is not None:
                part[parameter], parameter.grad = parameter.grad, None
        while n_groups % 2 == 0:
            earlier = self._partial.pop()
            part = {**earlier, **{p: earlier[p].add_(value) if p in earlier else value for p, value in part.items()}}
            n_groups //= 2
        self._partial.append(part)

    def _complete(self, parameter: Tensor, gradient: Tensor) -> None:
        for part in reversed(self._partial):
            if parameter in part:
                gradient.add_(part[parameter])

    def _exchange(self, group: Any, bucket: distributed.GradBucket) -> Future[Tensor]:  # type: ignore[name-defined]  # noqa: ANN401
        # DDP checks the annotations of the bucket and of the result
        for parameter, gradient in zip(bucket.parameters(), bucket.gradients(), strict=True):
            self._complete(parameter, gradient)
        return allreduce_hook(group, bucket)
