import pytest
import torch

from emeg.training.threads import SMALL_NETWORK, n_threads, torch_threads


@pytest.mark.parametrize(
    ("n_parameters", "given", "expected"),
    [(300_000, 0, 1), (SMALL_NETWORK, 0, 0), (300_000, 3, 3), (5_000_000, 2, 2)],
)
def test_small_networks_have_one_thread_unless_a_number_is_given(n_parameters, given, expected):
    assert n_threads(n_parameters, given) == expected


def test_the_number_of_threads_is_restored_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), torch_threads(before + 1):
        _fail_with(before + 1)
    with torch_threads(0):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before


def _fail_with(n: int) -> None:
    assert torch.get_num_threads() == n
    raise ZeroDivisionError
