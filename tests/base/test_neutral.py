"""Results do not depend on what was set in torch before, and it is left as it was set."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from labkit.base.neutral import neutral
from labkit.base.store import Store
from labkit.engine.connectivity import Instability
from labkit.engine.networks import build
from labkit.engine.training import evaluate_on, generator, train
from labkit.experiments import running
from labkit.experiments.experiment import Experiment
from labkit.experiments.running import run
from labkit.experiments.task import Task
from tests.synthetic import DATA, SGD, assert_equal, assert_same, finish


@contextmanager
def put(get: Callable[[], Any], set_: Callable[[Any], Any], value: Any) -> Iterator[None]:
    before = get()
    set_(value)
    try:
        yield
        assert get() == value, "it is left as it was set"
    finally:
        set_(before)


def cudnn(name: str) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    return (
        lambda: getattr(torch.backends.cudnn, name),
        lambda value: setattr(torch.backends.cudnn, name, value),
    )


SET_BEFORE = {
    "float64": lambda: put(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    "bfloat16": lambda: put(torch.get_default_dtype, torch.set_default_dtype, torch.bfloat16),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "deterministic": lambda: put(
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True
    ),
    "precision": lambda: put(
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"
    ),
    "threads": lambda: put(torch.get_num_threads, torch.set_num_threads, 2),
    "cudnn.benchmark": lambda: put(*cudnn("benchmark"), True),
    "cudnn.deterministic": lambda: put(*cudnn("deterministic"), False),
}


def full(network: str) -> Experiment:
    analysis = Instability(copies=2, alphas=3, train_examples=20)
    treatments = ("reinitialise", "shuffled-mask")
    task = Task(network=network, recipe=SGD)
    return Experiment(
        task, rounds=1, rewind=3, treatments=treatments, seeds=(0, 1), instability=analysis
    )


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "data", lambda task: DATA[task.network])
        folder = tmp_path_factory.mktemp("neutral")
        return {n: finish(full(n), Store(folder / n, shipped=False)) for n in NETWORKS}


NETWORKS = ("lenet-8-6", "resnet-8-w2")


@pytest.mark.parametrize("name", SET_BEFORE)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_run_is_bit_for_bit_what_it_is_without(
    name: str, network: str, synthetic_data: None, store: Store, expected
):
    with SET_BEFORE[name]():
        found = finish(full(network), store)
    assert_same(found, expected[network])


def test_the_processes_of_a_run_stand_on_neutral_ground_too(synthetic_data: None, tmp_path: Path):
    five = replace(full("lenet-8-6"), seeds=range(5), instability=Instability())
    plain = finish(five, Store(tmp_path / "plain", shipped=False), jobs=2)
    with SET_BEFORE["float64"]():
        found = finish(five, Store(tmp_path / "after", shipped=False), jobs=2)
    assert_same(found, plain)


def test_a_run_and_what_pulls_it_do_not_see_each_other(synthetic_data: None, store: Store):
    with SET_BEFORE["float64"]():
        for _ in run(full("lenet-8-6"), store):
            assert torch.ones(1).dtype == torch.float64
    for _ in run(full("lenet-8-6"), Store(store.folder / "other", shipped=False)):
        torch.set_default_dtype(torch.float64)  # in the middle of it
    assert torch.get_default_dtype() == torch.float64
    torch.set_default_dtype(torch.float32)


def test_training_has_one_thread_and_gives_the_others_back(
    synthetic_data: None, store: Store, monkeypatch
):
    found = []

    def spy(*args: Any, **options: Any) -> Iterator[Any]:
        for step in train(*args, **options):
            found.append(torch.get_num_threads())
            yield step
            if len(found) > 12:
                raise RuntimeError("no further")

    monkeypatch.setattr(running, "train", spy)
    with SET_BEFORE["threads"]():
        events = run(full("lenet-8-6"), store, jobs=1)
        for _ in range(5):
            next(events)
            assert torch.get_num_threads() == 2
        events.close()
        assert torch.get_num_threads() == 2
        with pytest.raises(RuntimeError, match="no further"):
            finish(full("lenet-8-6"), store, jobs=1)
        assert torch.get_num_threads() == 2
    assert set(found) == {1}


def ends(before: Callable[[], Any]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    data = DATA["conv-2"]
    with before():
        network = build("conv-2", data.image_shape, 3).initialise([generator(0)])
        for _ in train(network, SGD, data, [0]):
            pass
        return network.state(), evaluate_on(network, data, data.test).loss


@pytest.mark.parametrize("name", [*SET_BEFORE, "default device"])
def test_networks_of_ones_own_are_built_trained_and_evaluated_alike(name: str):
    before = SET_BEFORE.get(name, lambda: torch.device("cuda"))
    if name == "default device" and not torch.cuda.is_available():
        pytest.skip("there is no other device to be the default")
    (state, loss), (wanted, wanted_loss) = ends(before), ends(nullcontext)
    assert_equal(state, wanted)
    assert torch.equal(loss, wanted_loss)


def test_shapes_without_memory_stay_without():
    with torch.device("meta"):
        assert build("lenet-8-6", (1, 8, 8), 3).layers[0].weight.is_meta


def test_what_cannot_be_shielded_is_refused_by_name():
    data = DATA["lenet-8-6"]
    double = build("lenet-8-6", data.image_shape, 3).double()
    with pytest.raises(ValueError, match=r"network .* float32, and .*weight is of torch\.float64"):
        next(iter(train(double, SGD, data, [0])))
    with torch.inference_mode():
        frozen = build("lenet-8-6", data.image_shape, 3).requires_grad_(False).double().float()
    with pytest.raises(ValueError, match=r"weight is in torch\.inference_mode"):
        next(iter(train(frozen, SGD, data, [0])))


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="an older torch")
def test_a_precision_set_by_the_other_interface_is_refused_by_name():
    before = torch.backends.mkldnn.matmul.fp32_precision
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    try:
        with pytest.raises(ValueError, match=r"fp32_precision .* must be"), neutral():
            raise AssertionError("not reached")
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before
