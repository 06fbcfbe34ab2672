import pytest
import torch

from emeg.evaluation.rivals.networks import ARCHITECTURES, EEGNet, ScratchBuilder, cosine_rate


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
@pytest.mark.parametrize("shape", [(22, 256), (1, 64), (306, 40)])
def test_any_window_gives_one_output_per_class(name, shape):
    network = ScratchBuilder(name, 0.5)(*shape, 3, 128.0).eval()
    assert network(torch.randn(4, *shape)).shape == (4, 3)


def test_eegnet_has_the_parameters_of_the_paper():
    # EEGNet-8,2 of the paper for 64 channels and 128 samples at 128 Hz, four classes, biases of convolutions left out:
    # 8·64 + 16 + 16·64 + 32 + 16·16 + 16·16 + 32, then 16 · 4 features for each class and its bias
    network = EEGNet(64, 128, 4)
    n_features = 16 * (128 // 4 // 8)
    assert sum(p.numel() for p in network.parameters()) == 512 + 16 + 1024 + 32 + 256 + 256 + 32 + 4 * n_features + 4


def test_the_norms_of_eegnet_are_limited():
    network = EEGNet(8, 128, 2)
    with torch.no_grad():
        network.spatial.weight.mul_(50)
        network.classes.weight.mul_(50)
    network.constrain()
    assert network.spatial.weight.flatten(1).norm(dim=1).max() <= 1.0001
    assert network.classes.weight.norm(dim=1).max() <= 0.2501


def test_the_rate_rises_and_falls():
    rates = [cosine_rate(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] < 0.01
