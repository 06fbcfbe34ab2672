"""Peak rates of devices, and the precision chosen for each."""

import pytest
import torch

from emeg.training.device import pick_precision
from emeg.training.loop.speed import peak_by_name, peak_of

# name as the driver reports it, dense bf16 peak of the maker's data sheet in Tflop/s
NAMES = {
    "NVIDIA H100 80GB HBM3": 989,
    "NVIDIA H100 PCIe": 756,
    "NVIDIA H100 NVL": 835,
    "NVIDIA H200": 989,
    "NVIDIA A100-SXM4-80GB": 312,
    "NVIDIA A100 80GB PCIe": 312,
    "NVIDIA A10": 125,
    "NVIDIA L40S": 362,
    "NVIDIA L4": 121,
    "NVIDIA B200": 2250,
    "NVIDIA GeForce RTX 4090": 165.2,
    "AMD Instinct MI300X": 1307.4,
}


@pytest.mark.parametrize(("name", "teraflops"), NAMES.items())
def test_peaks_of_devices_by_the_name_that_the_driver_reports(name, teraflops):
    assert peak_by_name(name, "bf16-mixed") == pytest.approx(teraflops * 1e12)
    float32 = peak_by_name(name, "32-true")
    assert float32 is not None
    assert 0.02 < float32 / (teraflops * 1e12) < 0.6


@pytest.mark.parametrize(
    "name",
    [
        "Tesla V100-SXM2-32GB",
        "Tesla T4",
        "NVIDIA A10G",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA Graphics Device",
    ],
)
def test_other_devices_have_no_peak(name):
    assert peak_by_name(name, "bf16-mixed") is None


def test_a_cpu_has_no_peak():
    assert peak_of(torch.device("cpu"), "32-true") is None


@pytest.mark.parametrize("native", [True, False])
def test_bf16_is_chosen_only_where_the_gpu_does_not_emulate_it(monkeypatch, native):
    def is_supported(including_emulation: bool = True) -> bool:
        return native or including_emulation  # a V100 emulates

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    assert pick_precision("auto", torch.device("cuda")) == ("bf16-mixed" if native else "32-true")
    assert pick_precision("auto", torch.device("cpu")) == "32-true"
    assert pick_precision("bf16-mixed", torch.device("cuda")) == "bf16-mixed"
