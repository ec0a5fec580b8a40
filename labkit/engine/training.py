"""Training populations: a recipe, a generator that trains, and evaluation.

`train` yields after every iteration, so whoever pulls it can stop, pause or show progress at any
moment. Everything random is a function of (seed, purpose, position) and nothing is drawn from a
global generator: the batch of iteration t and its augmentation are the same whether training ran
there in one go, was resumed at t, or shared its population with other replicas.
"""

import hashlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice

import torch
from torch import Tensor
from torch.nn import functional as F

from labkit.base.generators import InPieces, Pieces, between
from labkit.base.neutral import on_neutral_ground
from labkit.base.validation import choice, fraction, keep, positive, several, whole
from labkit.engine.data import Data, Split
from labkit.engine.gradients import autocast
from labkit.engine.graphs import Update, replayed
from labkit.engine.networks import Masks, Population, State
from labkit.engine.optimizers import Moments, Optimizer
from labkit.engine.sparse import Masked, Survivors, forward_of, trained_part

OPTIMIZERS = ("adam", "sgd")
AUGMENTATIONS = ("none", "flip-crop")
PRECISIONS = ("float32", "bfloat16")
MOST_IN_A_BATCH = 100_000  # more than any data set here has training images
MOST_ITERATIONS = 10_000_000  # the longest of the papers' trainings is a twentieth
FETCHED = 4  # batches at a time
EVALUATED = 400  # images at a time, over all replicas: more would leave a processor's cache
EVALUATED_ON_GPU = 10_000  # fewer would not keep it busy; of VGG-16 they take some gigabytes


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    optimizer: "adam", or "sgd" with `momentum` (not Nesterov); both add weight_decay x weight to
    the gradient. milestones: fractions of all iterations at which the rate is multiplied by
    `decay`. warmup: iterations during which the rate grows linearly from 0.
    augmentation: "flip-crop" mirrors half the images and shifts each by up to an eighth of its
    height and width (4 pixels of 32, 2 of 16), zeros moving in. precision: "bfloat16" is autocast.
    slimming: the L1 penalty on the gammas of batch normalisation, as the sub-gradient
    slimming x sign(gamma) (Liu et al. 2017, section 3); such networks start with gammas of 0.5.
    """

    optimizer: str = "adam"
    learning_rate: float = 1.2e-3
    momentum: float = 0.0
    weight_decay: float = 0.0
    batch_size: int = 60
    iterations: int = 5_000
    milestones: tuple[float, ...] = ()
    decay: float = 0.1
    warmup: int = 0
    augmentation: str = "none"
    precision: str = "float32"
    slimming: float = 0.0

    def __post_init__(self) -> None:
        choice("recipe.optimizer", self.optimizer, OPTIMIZERS)
        keep(
            self,
            learning_rate=positive("recipe.learning_rate", self.learning_rate),
            momentum=fraction("recipe.momentum", self.momentum),
            weight_decay=positive("recipe.weight_decay", self.weight_decay, zero=True),
            batch_size=whole("recipe.batch_size", self.batch_size, 1, MOST_IN_A_BATCH),
            iterations=whole("recipe.iterations", self.iterations, 1, MOST_ITERATIONS),
            milestones=tuple(
                fraction("recipe.milestones", milestone, zero=False)
                for milestone in several("recipe.milestones", self.milestones)
            ),
            decay=fraction("recipe.decay", self.decay, zero=False),
            slimming=positive("recipe.slimming", self.slimming, zero=True),
        )
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"recipe.milestones must increase, not {self.milestones}")
        keep(self, warmup=whole("recipe.warmup", self.warmup, 0, self.iterations))
        choice("recipe.augmentation", self.augmentation, AUGMENTATIONS)
        choice("recipe.precision", self.precision, PRECISIONS)
        if self.optimizer == "adam" and self.momentum:
            raise ValueError(f"recipe.momentum must be 0 with adam, not {self.momentum}")

    def rate(self, iteration: int) -> float:
        """The learning rate of the update that leads from `iteration` to `iteration` + 1."""
        warm = min(1.0, (iteration + 1) / self.warmup) if self.warmup else 1.0
        passed = sum(iteration >= round(m * self.iterations) for m in self.milestones)
        return self.learning_rate * warm * self.decay**passed


@dataclass
class Snapshot:
    """A training state after `iteration` updates, enough to go on from there."""

    iteration: int
    network: State
    moments: Moments


@dataclass
class Measurement:
    """Mean loss and accuracy of every replica on one split, and how many of the classes are among
    its answers; all (R,), accuracy in [0, 1].
    """

    loss: Tensor
    accuracy: Tensor
    answers: Tensor


@dataclass
class EarlyStop:
    """Where the training of every replica should have been stopped, found afterwards.

    iteration: (R,), of its lowest validation loss, the first of equals. test: how the weights that
    it had then do on the test set.
    """

    iteration: Tensor
    test: Measurement


@dataclass
class Evaluation:
    """How every replica does at one iteration.

    The test set is left alone until the recipe's last iteration: then `test` says how the last
    weights do, and `early_stop` how those of the lowest validation loss would have done.
    """

    validation: Measurement
    test: Measurement | None = None
    early_stop: EarlyStop | None = None


@dataclass
class Step:
    """What `train` yields after each update; `evaluation` and `snapshot` only where asked for."""

    iteration: int
    evaluation: Evaluation | None = None
    snapshot: Snapshot | None = None


Noise = tuple[int, int]  # a seed and the number of a copy, see `train`


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose of one seed, independent of all others."""
    digest = hashlib.blake2b(repr((seed, *purpose)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


@on_neutral_ground
def train(
    network: Population,
    recipe: Recipe,
    data: Data,
    seeds: Sequence[int],
    *,
    copies: Sequence[int] | None = None,
    masks: Masks | None = None,
    start: int = 0,
    moments: Moments | None = None,
    frozen: bool = False,
    evaluate_at: Sequence[int] = (),
    snapshots: Sequence[int] = (),
    sparse: bool | None = None,
) -> Generator[Step, None, None]:
    """Train the population in place from iteration `start` to the recipe's last.

    seeds: one per replica; they decide the order of the data and the augmentation, so replicas
    with one seed see the same batches. copies: one number per replica; copies of a seed differ in
    this SGD noise and in nothing else; copy 0, the default, has the seed's ordinary noise.
    masks: weights outside are zero at the start and zero again after every update; or, `frozen`,
    what they are at the start.
    start, moments: where a schedule, a data order and an optimizer's moments are resumed; without
    moments the optimizer is new.
    evaluate_at: iterations after which the validation set is evaluated; if the last is one of them,
    the test set is evaluated there too.
    snapshots: iterations whose state is wanted. Iteration `start` counts as reached at once.
    sparse: whether survivors are trained alone, see `labkit.engine.sparse`; None where it is
    faster. The weights are the same within rounding, but the population has them only at steps with
    an evaluation or a snapshot, at the last, and when training is left.
    Raises ValueError for a network that was not made of ordinary float32 weights, and for one that
    cannot be trained `sparse`.
    """
    _validate_weights(network)
    part = trained_part(
        network, masks or {}, frozen, recipe.batch_size, recipe.precision, recipe.slimming, sparse
    )
    optimizer = Optimizer(
        recipe.optimizer,
        part.parameters,
        recipe.momentum,
        recipe.weight_decay,
        part.narrow(moments or []),
    )
    device = data.train.labels.device
    update = replayed(
        _update_of(part, optimizer, data),
        lambda: [*network.state_dict().values(), *optimizer.held()],
        device,
        recipe.iterations - start,
    )
    noises = list(zip(seeds, copies or [0] * len(seeds), strict=True))
    evaluate, save = set(evaluate_at), set(snapshots)
    lowest = _Lowest()

    def reached(iteration: int) -> Iterator[Step]:
        step = Step(iteration)
        if iteration in evaluate or iteration in save or iteration == recipe.iterations:
            part.write()
        if iteration in evaluate:
            pieces = _evaluation(network, data, recipe, iteration, lowest)
            step.evaluation = yield from between(pieces, Step(iteration))
        if iteration in save:
            held = part.widen(optimizer.moments())
            step.snapshot = Snapshot(iteration, network.state(), held)
        yield step

    try:
        yield from reached(start)
        order = data_order(noises, len(data.train), recipe.batch_size, start)
        batches = _fetched(data.train, order)
        for iteration, batch in zip(range(start, recipe.iterations), batches, strict=False):
            if not network.training:  # after an evaluation
                network.train()
            drawn = []
            if recipe.augmentation == "flip-crop":
                drawn = [_draws(noises, recipe.batch_size, iteration).to(device)]
            update(batch.images, batch.labels, recipe.rate(iteration), *drawn)
            yield from reached(iteration + 1)
    finally:
        part.write()


def _update_of(part: Masked | Survivors, optimizer: Optimizer, data: Data) -> Update:
    """What an iteration does on the device of the data, once its batch and its draws are there."""

    def update(
        images: Tensor, labels: Tensor, rate: float | Tensor, drawn: Tensor | None = None
    ) -> None:
        normal = data.normalise(images)  # (R, B, C, H, W)
        if drawn is not None:
            normal = _flipped_and_cropped(normal, drawn)
        optimizer.step(part.gradients(normal, labels), rate)
        part.hold()

    return update


def _validate_weights(network: Population) -> None:
    for name, weight in network.named_parameters():
        if weight.dtype != torch.float32 or weight.is_inference():
            made = "in torch.inference_mode" if weight.is_inference() else f"of {weight.dtype}"
            raise ValueError(f"network must have ordinary weights of float32, and {name} is {made}")


class _Lowest:
    """The weights of every replica at its lowest validation loss so far."""

    loss: Tensor  # (R,)
    iteration: Tensor  # (R,)

    def __init__(self) -> None:
        self.state: State = {}

    def look(self, network: Population, iteration: int, loss: Tensor) -> None:
        """Keep the weights of replicas whose loss is lower than ever before."""
        if not self.state:
            self.loss, self.state = loss.clone(), network.state()
            self.iteration = torch.full_like(loss, iteration, dtype=torch.int64)
            return
        lower = loss < self.loss
        self.loss[lower], self.iteration[lower] = loss[lower], iteration
        for name, tensor in network.state_dict().items():
            self.state[name][lower] = tensor[lower]


def _evaluation(
    network: Population, data: Data, recipe: Recipe, iteration: int, lowest: _Lowest
) -> Pieces[Evaluation]:
    validation = yield from evaluate_on.pieces(network, data, data.validation, recipe.precision)
    loss = validation.loss
    if not len(data.validation):  # then the last weights are as good as any
        loss = torch.full_like(loss, -iteration)
    lowest.look(network, iteration, loss)
    if iteration < recipe.iterations:
        return Evaluation(validation)
    test = yield from evaluate_on.pieces(network, data, data.test, recipe.precision)
    stopped = Measurement(test.loss.clone(), test.accuracy.clone(), test.answers.clone())
    earlier = lowest.iteration < iteration
    if earlier.any():
        state = {name: tensor[earlier] for name, tensor in lowest.state.items()}
        then = network.with_state(state)
        found = yield from evaluate_on.pieces(then, data, data.test, recipe.precision)
        stopped.loss[earlier], stopped.accuracy[earlier] = found.loss, found.accuracy
        stopped.answers[earlier] = found.answers
    return Evaluation(validation, test, EarlyStop(lowest.iteration, stopped))


def data_order(
    noises: Sequence[Noise], examples: int, batch_size: int, start: int
) -> Iterator[Tensor]:
    """Endless batches of indices (R, B) from iteration `start`; each pass has a new random order.

    noises: seed and copy of each replica. The passes follow each other without a gap, so every
    batch is full and none is dropped.
    """
    unique = sorted(set(noises))
    row = torch.tensor([unique.index(noise) for noise in noises])

    def one_pass(number: int) -> Tensor:
        generators = [_noise_generator(noise, "order", number) for noise in unique]
        return torch.stack([torch.randperm(examples, generator=g) for g in generators])[row]

    first, position = divmod(start * batch_size, examples)
    ahead = one_pass(first)[:, position:]
    for number in count(first + 1):
        *full, rest = ahead.split(batch_size, 1)
        yield from full
        ahead = torch.cat([rest, one_pass(number)], 1)


def _fetched(split: Split, order: Iterator[Tensor]) -> Iterator[Split]:
    """Batches of these indices, several fetched at a time: small ones cost less to fetch than the
    call that fetches them.
    """
    while several := list(islice(order, FETCHED)):
        found = split[torch.stack(several).to(split.labels.device)]
        yield from map(Split, found.images, found.labels)


def _noise_generator(noise: Noise, *purpose: str | int) -> torch.Generator:
    seed, copy = noise
    return generator(seed, *purpose, "copy", copy) if copy else generator(seed, *purpose)


def flip_and_crop(images: Tensor, noises: Sequence[Noise], iteration: int) -> Tensor:
    """Mirror half the images and shift each by up to an eighth of its size, zeros moving in.

    images: (R, B, C, H, W); the draws of a replica depend on its seed, the number of its copy and
    the iteration alone.
    """
    return _flipped_and_cropped(
        images, _draws(noises, images.shape[1], iteration).to(images.device)
    )


def _draws(noises: Sequence[Noise], batch: int, iteration: int) -> Tensor:
    """What `flip_and_crop` does to each image, (3, R, B): mirror, rows, columns, all in [0, 1)."""
    draws = {
        noise: torch.rand(3, batch, generator=_noise_generator(noise, "augmentation", iteration))
        for noise in set(noises)
    }
    return torch.stack([draws[noise] for noise in noises], 1)


def _flipped_and_cropped(images: Tensor, drawn: Tensor) -> Tensor:
    replicas, batch, channels, height, width = images.shape
    pad_y, pad_x = height // 8, width // 8
    flip = drawn[0] < 0.5
    rows = (
        torch.arange(height, device=images.device) + (drawn[1] * (2 * pad_y + 1)).long()[..., None]
    )
    columns = torch.arange(width, device=images.device).expand(replicas, batch, width)
    columns = torch.where(flip[..., None], columns.flip(-1), columns)
    columns = columns + (drawn[2] * (2 * pad_x + 1)).long()[..., None]
    padded = F.pad(images, (pad_x, pad_x, pad_y, pad_y))
    rows = rows[:, :, None, :, None].expand(-1, -1, channels, -1, padded.shape[-1])
    columns = columns[:, :, None, None, :].expand(-1, -1, channels, height, -1)
    return padded.gather(3, rows).gather(4, columns)


@InPieces
@on_neutral_ground
@torch.no_grad()
def evaluate_on(
    network: Population, data: Data, split: Split, precision: str = "float32"
) -> Pieces[Measurement]:
    """Mean cross-entropy and accuracy of every replica over all examples of a split; nan where it
    has none.

    Batch normalisation uses its running statistics. No example is dropped. Its pieces are batches.
    """
    network.eval()
    most = EVALUATED if split.labels.device.type == "cpu" else EVALUATED_ON_GPU
    size = max(100, most // network.replicas)
    forward = forward_of(network, len(split), precision)
    device = split.labels.device
    exact = torch.float32 if device.type == "mps" else torch.float64  # which a Mac's GPU lacks
    loss = torch.zeros(network.replicas, dtype=exact, device=device)
    correct = torch.zeros_like(loss)
    given = torch.zeros(network.replicas, len(data.classes), dtype=torch.bool, device=loss.device)
    # Some layers refuse an empty batch, which is what torch makes of an empty split.
    for start in range(0, len(split), size):
        batch = split[start : start + size]
        with autocast(precision, device):
            logits = forward(data.normalise(batch.images)[None]).float()  # (R, B, classes)
        everywhere = batch.labels.expand(network.replicas, -1)
        losses = F.cross_entropy(logits.transpose(1, 2), everywhere, reduction="none")
        loss += losses.to(exact).sum(1)
        answers = logits.argmax(2)
        correct += (answers == everywhere).sum(1)
        given.scatter_(1, answers, True)
        yield
    means = (loss / len(split)).cpu(), (correct / len(split)).cpu()
    return Measurement(*means, given.sum(1).cpu())
