"""A network of one's own becomes a population that computes the same, and comes back as it was."""

import copy
import io
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune as torch_prune
from torchvision.models import resnet18

from labkit import (
    Population,
    Pruning,
    Recipe,
    Task,
    apply_masks,
    build,
    full_masks,
    generator,
    narrow,
    prune,
    stack,
    train,
)
from labkit.engine.layers import Conv, Dense
from labkit.plain import tickets
from tests.engine.test_networks import RESIDUAL, SHAPE, SMALL, population
from tests.synthetic import DATA, SGD

IMAGES = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(3))


class Small(nn.Module):
    """As a student writes it: functions, a layer that is used twice, and no padding."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 8, 3, padding="same")
        self.norm = nn.BatchNorm2d(8, eps=1e-3, momentum=0.2)
        self.pool, self.act = nn.AvgPool2d(2), nn.Tanh()
        self.fc1, self.fc2 = nn.Linear(8 * 9, 20), nn.Linear(20, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = self.pool(self.act(self.norm(self.conv2(x))))
        x = x.view(x.size(0), -1)
        return self.fc2(self.act(self.fc1(x)))


class Branches(nn.Module):
    """A block as torchvision writes it, but for what a test changes."""

    def __init__(self, size: int = 3, bias: bool = False, last: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 3, size, padding=size // 2, bias=bias)
        self.conv2 = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.norm1, self.norm2, self.last = nn.BatchNorm2d(3), nn.BatchNorm2d(3), last()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return torch.flatten(self.last(x + y), 1)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.same(self.same(x.flatten(1)))


class Decides(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


OWN = {
    "sequence": lambda: nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
        nn.Identity(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 10),
    ),
    "dense": lambda: nn.Sequential(nn.Flatten(), nn.Linear(768, 9), nn.GELU(), nn.Linear(9, 10)),
    "class": Small,
    "block": Branches,
    "resnet18": lambda: resnet18(num_classes=10),
}


def own(name: str) -> nn.Module:
    torch.manual_seed(1)
    module = OWN[name]()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)
            nn.init.normal_(norm.weight)
    return module


def assert_same_state(one: nn.Module, other: nn.Module) -> None:
    mine, its = one.state_dict(), other.state_dict()
    assert list(mine) == list(its)
    for name, tensor in mine.items():
        assert torch.equal(tensor, its[name]), name


@pytest.mark.parametrize("name", OWN)
def test_a_population_computes_what_the_module_does(name: str) -> None:
    module = own(name)
    network = Population.from_module(module)
    assert network.replicas == 1 and network.name == type(module).__name__
    for mode in (False, True):
        module.train(mode), network.train(mode)
        torch.testing.assert_close(network(IMAGES[None])[0], module(IMAGES), rtol=1e-4, atol=1e-4)
    # After a batch in training mode the running statistics have moved alike.
    module.eval(), network.eval()
    torch.testing.assert_close(network(IMAGES[None])[0], module(IMAGES), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", OWN)
def test_the_way_there_and_back_changes_no_bit(name: str) -> None:
    module = own(name)
    network = Population.from_module(module)
    assert_same_state(network.to_module(like=module), module)
    again = Population.from_module(network.to_module())
    for key, tensor in network.state().items():
        assert torch.equal(again.state()[key], tensor), key
    assert repr(again) == repr(network)
    with torch.no_grad():
        expected = module.eval()(IMAGES)
        assert torch.equal(network.to_module(like=module).eval()(IMAGES), expected)


def test_the_module_keeps_its_weights_whatever_happens_to_the_population() -> None:
    module = own("class")
    before = copy.deepcopy(module)
    network = Population.from_module(module)
    network.initialise([generator(0)])
    changed = network.to_module(like=module)
    assert_same_state(module, before)
    assert not torch.equal(changed.fc1.weight, module.fc1.weight)


@pytest.mark.parametrize("name", (*SMALL, *RESIDUAL))
def test_every_replica_of_the_zoo_becomes_a_plain_module_and_comes_back(name: str) -> None:
    network = population(name)
    network.eval()
    with torch.no_grad():
        expected = network(IMAGES[None])
        for replica in range(2):
            module = network.to_module(replica)
            assert not any("labkit.engine.layers" in str(type(m)) for m in module.modules())
            torch.testing.assert_close(module(IMAGES), expected[replica], rtol=1e-4, atol=1e-4)
            assert_same_state(network[replica].to_module(), module)
    both = stack([Population.from_module(network.to_module(i)) for i in (0, 1)])
    for mine, its in zip(network.state().values(), both.state().values(), strict=True):
        assert torch.equal(mine, its)


def test_a_training_step_is_that_of_torch() -> None:
    module, data = own("class"), DATA["resnet-8-w2"]
    network = Population.from_module(module)
    recipe = Recipe("sgd", 0.1, momentum=0.9, weight_decay=1e-3, batch_size=8, iterations=3)
    batches: list[tuple[torch.Tensor, torch.Tensor]] = []

    class Watched(type(data.train)):  # what is trained on
        def __getitem__(self, index):
            found = super().__getitem__(index)
            batches.extend(zip(found.images, found.labels, strict=True))
            return found

    watched = replace(data, train=Watched(data.train.images, data.train.labels))
    for _ in train(network, recipe, watched, [0]):
        pass
    optimizer = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9, weight_decay=1e-3)
    module.train()
    for images, labels in batches[:3]:
        loss = F.cross_entropy(module(data.normalise(images[0])), labels[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    trained = network.to_module(like=module)
    for name, tensor in module.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(trained.state_dict()[name], tensor, rtol=1e-3, atol=1e-5)


def test_named_and_own_networks_train_to_the_same_bits() -> None:
    data = DATA["lenet-8-6"]
    named = build("lenet-8-6", data.image_shape, 3).initialise([generator(0)])
    mine = Population.from_module(named.to_module())
    for network in (named, mine):
        for _ in train(network, SGD, data, [0]):
            pass
    for key, tensor in named.state().items():
        assert torch.equal(mine.state()[key], tensor), key


def pruned(network: Population, kind: str = "unstructured"):
    noise = [generator(5)] * network.replicas
    rule = Pruning(kind=kind, rate=0.5)
    return prune(rule, network.state(), full_masks(network), noise, units=network.units())


@pytest.mark.parametrize("like", [False, True])
def test_masks_are_those_of_torch_and_its_training_holds_them(like: bool) -> None:
    module = own("class")
    network = Population.from_module(module)
    masks = pruned(network)
    made = network.to_module(masks=masks, like=module if like else None)
    layers = [m for m in made.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    weights = network.state()
    for layer, (name, mask) in zip(layers, masks.items(), strict=True):
        assert torch_prune.is_pruned(layer)
        assert torch.equal(layer.weight_mask.bool(), mask[0])
        assert torch.equal(layer.weight_orig, weights[name][0])
        assert torch.equal(layer.weight, apply_masks(weights, masks)[name][0])
    optimizer = torch.optim.SGD(made.parameters(), 0.1, weight_decay=0.1)
    F.cross_entropy(made(IMAGES), torch.arange(5)).backward()
    optimizer.step()
    made(IMAGES)  # which applies the masks
    for layer, mask in zip(layers, masks.values(), strict=True):
        assert not layer.weight[~mask[0]].any() and layer.weight[mask[0]].all()


def test_of_a_module_that_torch_has_pruned_a_population_has_what_is_left() -> None:
    module = own("class")
    for layer in (module.conv1, module.fc1):
        torch_prune.l1_unstructured(layer, "weight", 0.5)
    network = Population.from_module(module.eval())
    network.eval()
    torch.testing.assert_close(network(IMAGES[None])[0], module(IMAGES), rtol=1e-4, atol=1e-4)
    weights = network.prunable()
    assert torch.equal(weights["layers.0.weight"][0], module.conv1.weight)
    back = network.to_module(like=copy.deepcopy(own("class")).eval())
    assert torch.equal(back.fc1.weight, module.fc1.weight)


@pytest.mark.parametrize("name", ["class", "resnet18", "zoo"])
def test_a_narrowed_network_is_a_plain_and_smaller_module(name: str) -> None:
    network = population("resnet-8", 1) if name == "zoo" else Population.from_module(own(name))
    masks = pruned(network, "structured")
    masked = network.with_state(apply_masks(network.state(), masks)).eval()
    small = narrow(network, masks).eval().to_module()
    with torch.no_grad():
        expected = masked(IMAGES[None])[0]
        torch.testing.assert_close(small(IMAGES), expected, rtol=1e-4, atol=1e-4)
    sizes = [sum(p.numel() for p in m.parameters()) for m in (small, network)]
    assert sizes[0] < 0.75 * sizes[1]
    exported = torch.export.export(small, (IMAGES,)).module()
    torch.testing.assert_close(exported(IMAGES), small(IMAGES))


@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_a_narrowed_network_is_exported_to_onnx() -> None:
    onnx = pytest.importorskip("onnx", reason="onnx and onnxscript are not installed")
    pytest.importorskip("onnxscript")
    evaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator
    network = Population.from_module(own("class"))
    small = narrow(network, pruned(network, "structured")).eval().to_module()
    file = io.BytesIO()
    torch.onnx.export(small, (IMAGES,), dynamo=True, verbose=False).save(file)
    model = onnx.load_from_string(file.getvalue())
    (input_,) = model.graph.input
    (found,) = evaluator(model).run(None, {input_.name: IMAGES.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), small(IMAGES), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("module", "named"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Dropout()), r"2 \(Dropout"),
        (nn.Sequential(nn.Flatten(), nn.LSTM(4, 4)), r"1 \(LSTM"),
        (nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)), r"0 \(Conv2d.*of one group"),
        (nn.Sequential(nn.Conv2d(4, 4, (1, 3))), r"0 \(Conv2d.*must be square"),
        (nn.Sequential(nn.Conv2d(4, 4, 3, dilation=2)), r"0 \(Conv2d.*not dilated"),
        (nn.Sequential(nn.Conv2d(4, 4, 2, padding="same")), r"0 \(Conv2d.*must be square"),
        (nn.Sequential(nn.Conv2d(4, 4, 3, padding_mode="reflect")), r"0 \(Conv2d.*zeros around"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 4, bias=False)), r"1 \(Linear.*have a bias"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 4)).double(), r"1 \(Linear.*float64"),
        (nn.Sequential(nn.Conv2d(1, 1, 3), nn.Linear(4, 4)), r"1 \(Linear.*without a Flatten"),
        (nn.Sequential(nn.Flatten(), nn.Conv2d(1, 1, 3)), r"1 \(Conv2d.*after Flatten"),
        (nn.Sequential(nn.BatchNorm2d(3, affine=False)), r"0 \(BatchNorm2d.*must have weights"),
        (nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3)), r"1 \(BatchNorm2d.*a second one"),
        (nn.Sequential(nn.Flatten(0), nn.Linear(4, 4)), r"0 \(Flatten.*first axis"),
        (Branches(size=5), "with other convolutions"),
        (Branches(bias=True), "with other convolutions"),
        (Branches(last=nn.Tanh), "no such block"),
        (Twice(), "calls twice"),
        (Decides(), "of Decides cannot be followed"),
    ],
)
def test_what_is_not_known_is_refused_by_its_name(module: nn.Module, named: str) -> None:
    with pytest.raises(ValueError, match=named) as raised:
        Population.from_module(module)
    if "followed" not in named:
        assert "BatchNorm2d, ReLU" in str(raised.value), "it says what is allowed"


def test_a_vision_transformer_has_no_plain_module() -> None:
    with pytest.raises(ValueError, match=r"layer 0 is Patches, of the vision transformer; allowed"):
        build("vit-2-4", SHAPE, 10).to_module()


def test_weights_and_masks_must_fit() -> None:
    network = Population.from_module(own("class"))
    with pytest.raises(ValueError, match="like must have this network's layers and widths"):
        network.to_module(like=own("dense"))
    small = narrow(network, masks := pruned(network, "structured"))
    with pytest.raises(ValueError, match="like must have this network's layers and widths"):
        small.to_module(like=own("class"))
    with pytest.raises(ValueError, match=r"masks must be of this network's weights"):
        small.to_module(masks=masks)
    with pytest.raises(ValueError, match=r"masks must be of this network's weights"):
        network.to_module(masks={"layers.9.weight": torch.ones(1, 1, dtype=torch.bool)})


def test_new_weights_are_those_of_he() -> None:
    network = Population.from_module(own("class")).initialise([generator(0)])
    for layer in network.layers:
        if isinstance(layer, Dense | Conv):
            fan_in = layer.weight[0, 0].numel()
            assert layer.deviation == pytest.approx((2 / fan_in) ** 0.5)


@pytest.mark.parametrize("kind", ["unstructured", "structured"])
def test_tickets_of_a_network_of_ones_own(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Task, "data", lambda task: DATA["lenet-8-6"])
    task = Task(network="lenet-8-6", recipe=SGD)
    named = build("lenet-8-6", DATA["lenet-8-6"].image_shape, 3)
    named.initialise([generator(2, "initialisation")])
    mine = Population.from_module(named.to_module())
    rule = Pruning(kind=kind, rate=0.3)
    before = mine.state()
    expected = tickets(task, rule, rounds=2, k=3, seed=2)
    found = tickets(replace(task, network="conv-2"), rule, rounds=2, k=3, seed=2, own=mine)
    for one, other in zip(expected, found, strict=True):
        for mine_, its in zip(one, other, strict=True):
            assert mine_.keys() == its.keys()
            assert all(torch.equal(mine_[key], its[key]) for key in its)
    assert all(torch.equal(tensor, mine.state()[key]) for key, tensor in before.items())
