"""Networks are measured as a server would run them, and one that does not fit spoils nothing."""

import torch
from torch import Tensor, nn

from service.engine.predictor import Predictor
from service.engine.torch_engine import precisions
from service.network import build, count_parameters
from service.reproduction.networks import NORMALISATION, Contender, benchmark, devices, measure_in_turn
from service.reproduction.networks_report import Setting
from service.reproduction.paper import Compared
from tests.checkpoints import TINY

CPU = torch.device("cpu")
SETTING = Setting(device="cpu", precision="float32", height=64, width=96, batch=2)
TINY_AL_NET = Compared("al-net", "AL-Net", "al-net", TINY)


class Hungry(nn.Module):
    """Needs more memory than there is; on the meta device, where shapes alone are known, none."""

    def forward(self, image: Tensor) -> Tensor:
        torch.empty(1 << 60, dtype=torch.uint8, device=image.device)
        return image[:, :1]


def _contender(key: str, network: nn.Module, dtype: torch.dtype = torch.float32) -> Contender:
    predictor = Predictor(network, NORMALISATION, temperature=1.0, device=CPU, dtype=dtype)
    return Contender(key, "served", count_parameters(network), predictor)


def test_al_net_is_measured_before_and_after_reparameterisation() -> None:
    (report,) = benchmark(
        [TINY_AL_NET], places=[CPU], precision="float32", sizes=[(64, 96)], batches=[2], warm_up=1, repeat=3
    )
    training, served = report.measurements
    assert (training.form, served.form) == ("training", "served")
    assert training.parameters == count_parameters(build("al-net", **TINY)) > served.parameters
    assert training.macs > served.macs > 0
    assert len(training.times_ms) == len(served.times_ms) == 3
    assert min(training.times_ms + served.times_ms) > 0
    assert training.setting == served.setting == SETTING


def test_a_variant_of_al_net_is_measured_as_it_is_served_alone() -> None:
    variant = Compared("al-net-u", "AL-Net, U-Decoder", "al-net", TINY)
    (report,) = benchmark([variant], places=[CPU], precision="auto", sizes=[(32, 32)], batches=[1], warm_up=0, repeat=1)
    (measured,) = report.measurements
    assert measured.form == "served"
    assert measured.setting.precision == precisions(CPU, "auto")[0]


def test_each_size_and_batch_adds_to_the_report() -> None:
    reports = benchmark(
        [TINY_AL_NET],
        places=[CPU],
        precision="bfloat16",
        sizes=[(32, 32), (32, 64)],
        batches=[2, 1],
        warm_up=0,
        repeat=1,
    )
    *before, last = reports
    assert [len(report.measurements) for report in (*before, last)] == [2, 4, 6, 8]
    settings = [one.setting for one in last.measurements if one.form == "served"]
    assert [(setting.width, setting.batch) for setting in settings] == [(32, 2), (32, 1), (64, 2), (64, 1)]
    assert {setting.precision for setting in settings} == {"bfloat16"}


def test_memory_is_weights_and_input_and_feature_maps() -> None:
    network = nn.Conv2d(3, 1, 1, bias=False)
    measured = measure_in_turn([_contender("al-net", network)], SETTING, CPU, warm_up=0, repeat=1)[0]
    weights, pixels, feature_map = 3 * 4 + 2 * 3 * 4, 2 * 64 * 96 * 3, 2 * 64 * 96 * 4  # with the normalisation's six
    assert measured.peak_bytes is not None
    rest = measured.peak_bytes - weights - pixels
    assert 4 * feature_map <= rest < 10 * feature_map  # normalised: three channels; the answer: one


def test_half_precision_halves_the_weights() -> None:
    halves = [
        _contender("al-net", nn.Conv2d(3, 100, 3), dtype).weights_bytes for dtype in (torch.float32, torch.bfloat16)
    ]
    normalisation = 2 * 3 * 4
    assert halves[0] - normalisation == 2 * (halves[1] - normalisation) == 2800 * 4


def test_a_network_that_does_not_fit_says_so_and_the_others_are_measured() -> None:
    contenders = [_contender("unetplusplus", Hungry()), _contender("al-net", nn.Conv2d(3, 1, 1))]
    hungry, modest = measure_in_turn(contenders, SETTING, CPU, warm_up=1, repeat=2)
    assert (hungry.times_ms, hungry.peak_bytes) == ((), None)
    assert len(modest.times_ms) == 2


def test_the_cpu_is_always_measured_and_a_gpu_where_there_is_one() -> None:
    expected = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    assert [device.type for device in devices("auto")] == expected
    assert [device.type for device in devices("cpu")] == ["cpu"]
