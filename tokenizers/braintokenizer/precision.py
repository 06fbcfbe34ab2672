"""Arithmetic of results that must not depend on a process's settings."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch

SETTINGS: tuple[Any, ...] = (
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,  # type: ignore[attr-defined]
    torch.backends.cudnn.rnn,
    torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
    torch.backends.mkldnn.conv,  # type: ignore[attr-defined]
    torch.backends.mkldnn.rnn,  # type: ignore[attr-defined]
)
"""Groups of operations whose float32 inputs a GPU may round to TF32, and a CPU to bf16."""


@contextmanager
def exact_float32(device_type: str) -> Iterator[None]:
    """Compute in float32 during the block: no autocast and no TF32, whatever the process has set.

    With TF32, up to 0.56 % of the codes of a signal change.

    Parameters
    ----------
    device_type : str
        Type of the device that computes: ``"cpu"``, ``"cuda"`` or ``"mps"``.
    """
    with ExitStack() as stack:
        for setting in SETTINGS:
            stack.callback(_set, setting, setting.fp32_precision)
        # PyTorch refuses to compute where its older flags contradict its newer settings, so both are changed.
        stack.callback(torch.set_float32_matmul_precision, _matmul_precision())
        with suppress(RuntimeError):  # the process has set convolutions and LSTMs apart; the flag has no value then
            stack.callback(setattr, torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32)
        torch.backends.cudnn.allow_tf32 = False
        torch.set_float32_matmul_precision("highest")
        for setting in SETTINGS:
            _set(setting, "ieee")
        stack.enter_context(torch.autocast(device_type, enabled=False))
        yield


def _matmul_precision() -> str:
    """Return the older setting of matrix products; PyTorch refuses to if only the newer one allows TF32."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return "highest"


def _set(setting: Any, precision: str) -> None:  # noqa: ANN401 - torch exports no type for it
    setting.fp32_precision = precision
