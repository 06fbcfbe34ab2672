"""What the device reaches in matrix products, copies and starts of kernels."""

import torch
from benchmarks.gpu.device import Result, Setup, seconds_of


def ceilings(setup: Setup) -> Result:
    """Measure matrix products, a copy, and starts of kernels."""
    size, length = (256, 2**20) if setup.tiny else (8192, 2**28)
    found: Result = {"device": torch.cuda.get_device_name() if setup.is_cuda else "cpu", "torch": torch.__version__}
    for name, dtype, tf32 in (
        ("bf16", torch.bfloat16, False),
        ("tf32", torch.float32, True),
        ("float32", torch.float32, False),
    ):
        torch.backends.cuda.matmul.fp32_precision = "tf32" if tf32 else "ieee"
        a, b = (torch.randn(size, size, device=setup.device, dtype=dtype) for _ in range(2))
        found[f"gemm_{name}_tflops"] = 2 * size**3 / seconds_of(setup, lambda a=a, b=b: a @ b) / 1e12  # type: ignore[misc]
    source = torch.empty(length, device=setup.device)
    target = torch.empty_like(source)
    found["copy_gb_s"] = 2 * source.nbytes / seconds_of(setup, lambda: target.copy_(source)) / 1e9
    small = torch.zeros(8, device=setup.device)

    def start_kernels() -> None:
        for _ in range(1000):
            small.add_(1.0)

    found["launch_us"] = seconds_of(setup, start_kernels) * 1e3
    return found
