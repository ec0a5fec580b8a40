"""Data sets as tensors: bundled, torchvision's, or your own folder of images.

A data set is three splits of uint8 images and int64 labels, small enough to live whole on the
device. `mnist` and `cifar10-16` come with the repository and are read offline; torchvision
downloads the others on first use. The training set is put in one fixed random order, the same for
every experiment: its head is the validation split and what follows is training data. So fewer
`examples` are always a prefix of more, and experiments that differ in anything else see the same
images.
"""

import gzip
import hashlib
import io
import socket
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from labkit.base.neutral import neutral
from labkit.base.places import DataError, cache_folder, data_folder
from labkit.base.validation import choice, whole
from labkit.engine import folders

SPLIT_SEED = 2019  # the year of the first of the three papers; changing it changes every result
FOLDER = "folder:"
TORCHVISION = {  # name -> class in torchvision.datasets, bundled data set to use when offline
    "cifar10": ("CIFAR10", "cifar10-16"),
    "cifar100": ("CIFAR100", "cifar10-16"),
    "fashion_mnist": ("FashionMNIST", "mnist"),
    "kmnist": ("KMNIST", "mnist"),
}
SHAPES = {  # name -> channels, height, width
    "mnist": (1, 28, 28),
    "cifar10-16": (3, 16, 16),
    "cifar10": (3, 32, 32),
    "cifar100": (3, 32, 32),
    "fashion_mnist": (1, 28, 28),
    "kmnist": (1, 28, 28),
}
NAMES = tuple(SHAPES)
CLASSES = dict.fromkeys(NAMES, 10) | {"cifar100": 100}  # how many
TRAINING_IMAGES = {  # of which `validation` are taken away
    **dict.fromkeys(("mnist", "fashion_mnist", "kmnist"), 60_000),
    **dict.fromkeys(("cifar10-16", "cifar10", "cifar100"), 50_000),
}
NORMALISATIONS = ("unit", "standard")
DIGITS = tuple("0123456789")
OBJECTS = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


# Two of these are equal when they are the same object: tensors have no single truth value.
@dataclass(frozen=True, eq=False)
class Split:
    """Images with their labels.

    images: uint8, (N, C, H, W); labels: int64, (N,). Shared between callers: never write to them.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: slice | Tensor) -> "Split":
        """chosen: a slice, or indices of any shape, which takes the place of N."""
        if isinstance(chosen, slice):
            return Split(self.images[chosen], self.labels[chosen])
        # Whole images at a time: several times faster than images[chosen], which goes by pixels.
        flat = chosen.flatten()
        parts = (part.index_select(0, flat) for part in (self.images, self.labels))
        return Split(*(part.unflatten(0, chosen.shape) for part in parts))

    def __repr__(self) -> str:
        return f"Split({len(self)} images of {' x '.join(map(str, self.images.shape[1:]))})"

    def to(self, device: torch.device | str) -> "Split":
        """The same split on another device."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Data:
    """A data set: three splits, the names of its classes, and how its pixels are normalised.

    mean, deviation: float32, (C, 1, 1), in units where white is 1.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    mean: Tensor
    deviation: Tensor

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def to(self, device: torch.device | str) -> "Data":
        """The same data set on another device."""
        return replace(
            self,
            train=self.train.to(device),
            validation=self.validation.to(device),
            test=self.test.to(device),
            mean=self.mean.to(device),
            deviation=self.deviation.to(device),
        )

    def normalise(self, images: Tensor) -> Tensor:
        """(images / 255 - mean) / deviation: uint8 (..., C, H, W) to float32 of that shape."""
        scaled = images / 255
        return scaled if self._unit else scaled.sub_(self.mean).div_(self.deviation)

    @cached_property
    def _unit(self) -> bool:
        """Whether there is nothing to shift or scale: two passes over every batch fewer."""
        return not self.mean.any() and bool((self.deviation == 1).all())


def validate_name(name: str) -> None:
    """Check a data set's name without reading anything; ValueError lists the known names."""
    own_folder = isinstance(name, str) and name.startswith(FOLDER) and name != FOLDER
    if not own_folder and not (isinstance(name, str) and name in NAMES):
        known = ", ".join(NAMES)
        raise ValueError(f"name of a data set must be one of {known}, {FOLDER}PATH, not {name!r}")


@neutral()
def load(
    name: str,
    *,
    normalisation: str = "unit",
    validation: int = 5_000,
    examples: int | None = None,
    image_size: int | None = None,
    content: str | None = None,
) -> Data:
    """A data set, ready for training. Cheap to call again: its tensors are views of one copy.

    name: one of NAMES, or "folder:PATH" for your own images: PATH/train and PATH/test (or val) with
    one folder per class each, or one folder per class, of which a fifth becomes the test set. What
    becomes of their pixels: see `labkit.engine.folders.read`.
    normalisation: "unit" (pixels in [0, 1]) or "standard" (each channel has mean 0 and deviation 1
    over the training split, before `examples` cuts it).
    validation: how many images to take from the training set; always the same ones.
    examples: how many of the remaining training images to keep; None keeps all.
    image_size: height and width in pixels to shrink to, by area averaging; None keeps the size.
    content: the digest that your own images must have, see `labkit.engine.folders`; None takes any.

    Raises ValueError for a bad argument, and DataError (a ValueError) for files that are damaged,
    missing, or cannot be downloaded. Files are read once per process.
    """
    validate_name(name)
    choice("normalisation", normalisation, NORMALISATIONS)
    whole("image_size", image_size, 1, optional=True)
    whole("validation", validation, 0)
    whole("examples", examples, 1, optional=True)

    source = name, image_size, data_folder(), _content(name, content)
    train, test, classes = _shuffled(*source)
    whole("validation", validation, 0, len(train) - 1)
    whole("examples", examples, 1, len(train) - validation, optional=True)
    channels = train.images.shape[1]
    mean, deviation = torch.zeros(channels, 1, 1), torch.ones(channels, 1, 1)
    if normalisation == "standard":
        mean, deviation = _statistics(*source, validation)
    end = len(train) if examples is None else validation + examples
    return Data(name, train[validation:end], train[:validation], test, classes, mean, deviation)


def _content(name: str, wanted: str | None) -> str:
    """The digest of own images as they are now; nothing for other data, whose name says it all."""
    if not name.startswith(FOLDER):
        return ""
    found = folders.digest(name.removeprefix(FOLDER))
    if wanted not in (None, found):
        raise DataError(
            f"the images in {name.removeprefix(FOLDER)} must be those with the digest {wanted}, "
            f"and are now those with {found}; run it again for these"
        )
    return found


_Source = tuple[Split, Split, tuple[str, ...]]  # training set, test set, names of the classes


@lru_cache(maxsize=4)
def _shuffled(name: str, image_size: int | None, folder: Path, content: str) -> _Source:
    """A data set with its training set in the fixed random order."""
    if name.startswith(FOLDER):
        train, test, classes = _read_folder(name.removeprefix(FOLDER), image_size, content)
    elif image_size is not None:
        train, test, classes = _shuffled(name, None, folder, content)
        return _shrunk(train, image_size), _shrunk(test, image_size), classes
    elif name in TORCHVISION:
        train, test, classes = _read_torchvision(name)
    elif name == "mnist":
        train, test, classes = _read_mnist(folder)
    else:
        train, test, classes = _read_cifar10_16(folder)
    return train[_order(len(train))], test, classes


def _order(n: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(SPLIT_SEED))


@lru_cache(maxsize=16)
def _statistics(
    name: str, image_size: int | None, folder: Path, content: str, validation: int
) -> tuple[Tensor, Tensor]:
    train, _, _ = _shuffled(name, image_size, folder, content)
    channels = train.images[validation:].transpose(0, 1).flatten(1)  # (C, N * H * W)
    # A histogram of the 256 grey levels is exact and needs no floating-point copy of the images.
    counts = torch.stack([channel.bincount(minlength=256) for channel in channels]).double()
    weights, levels = counts / counts.sum(1, keepdim=True), torch.arange(256) / 255.0
    mean = (weights * levels).sum(1, keepdim=True)
    deviation = (weights * (levels - mean) ** 2).sum(1, keepdim=True).sqrt()
    deviation[deviation == 0] = 1  # a constant channel has nothing to scale
    return mean.float()[..., None], deviation.float()[..., None]


def _shrunk(split: Split, size: int) -> Split:
    height, width = split.images.shape[2:]
    whole("image_size", size, 1, min(height, width), optional=True)
    if height == width == size:
        return split
    small = torch.empty((*split.images.shape[:2], size, size), dtype=torch.uint8)
    # In pieces, because the whole as float32 takes four times the memory.
    for piece, target in zip(split.images.split(1_024), small.split(1_024), strict=True):
        area = torch.nn.functional.interpolate(piece.float(), size=(size, size), mode="area")
        target.copy_((area + 0.5).floor())  # halves up, like the bundled 16x16 images
    return Split(small, split.labels)


def _bundled(folder: Path, name: str) -> bytes:
    """Content of a bundled file, its digest checked."""
    remedy = "install the lab again, or in a clone `git checkout data`"
    try:
        content = (folder / name).read_bytes()
        lines = (folder / "SHA256SUMS").read_text().splitlines()
        expected = {file: known for known, file in map(str.split, lines)}.get(name, "(none listed)")
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {folder / name} ({error}); {remedy}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise DataError(
            f"{folder / name} is damaged: SHA-256 expected {expected}, found {found}; {remedy}"
        )
    return content


def _idx(folder: Path, name: str) -> Tensor:
    """A bundled IDX file: byte 3 is the number of dimensions, 4 bytes each follow, then uint8."""
    content = bytearray(gzip.decompress(_bundled(folder, name)))
    start = 4 + 4 * content[3]
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    return torch.frombuffer(content, dtype=torch.uint8, offset=start).view(shape)


def _read_mnist(folder: Path) -> _Source:
    def split(part: str) -> Split:
        images = _idx(folder, f"mnist/{part}-images-idx3-ubyte.gz")
        return Split(images[:, None], _idx(folder, f"mnist/{part}-labels-idx1-ubyte.gz").long())

    return split("train"), split("t10k"), DIGITS


def _read_cifar10_16(folder: Path) -> _Source:
    def split(part: str) -> Split:
        labels = _idx(folder, f"cifar10-16/{part}-labels-idx1-ubyte.gz").long()
        images = torch.empty((len(labels), 3, 16, 16), dtype=torch.uint8)
        for number, sheet in enumerate(images.view(-1, 25, 40, 3, 16, 16)):
            content = _bundled(folder, f"cifar10-16/{part}-{number:02d}.png")
            with Image.open(io.BytesIO(content)) as picture:
                pixels = folders.pixels(picture)  # (3, 25 * 16, 40 * 16)
            sheet.copy_(pixels.view(3, 25, 16, 40, 16).permute(1, 3, 0, 2, 4))
        return Split(images, labels)

    return split("train"), split("test"), OBJECTS


def _read_torchvision(name: str) -> _Source:
    class_name, alternative = TORCHVISION[name]
    root = cache_folder() / "torchvision"
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # seconds; a network that swallows packets must not hang a class
    try:
        from torchvision import datasets

        kind = getattr(datasets, class_name)
        _remove_damaged(root / class_name / "raw", getattr(kind, "resources", ()))
        train, test = (kind(str(root), train=part, download=True) for part in (True, False))
    except Exception as error:  # failures of the network, the disk and a checksum share no type
        raise DataError(
            f"cannot get {name} through torchvision ({type(error).__name__}: {error}); try again, "
            f"and if that does not help remove the folder {root}; offline, use {alternative!r}, "
            "which is bundled"
        ) from error
    finally:
        socket.setdefaulttimeout(patience)

    def split(dataset: Any) -> Split:
        images = torch.as_tensor(dataset.data)  # (N, H, W) or (N, H, W, 3)
        images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
        return Split(images, torch.as_tensor(dataset.targets))

    return split(train), split(test), tuple(train.classes)


def _remove_damaged(raw: Path, resources: Iterable[tuple[str, str]]) -> None:
    """Remove files that are not what their authors published, so that they are fetched again.

    resources: names of archives, and their MD5. torchvision checks those when it fetches them, but
    later believes whatever a process that was killed has left unpacked. It checks CIFAR itself.
    """
    for name, published in resources:
        archive, unpacked = raw / name, raw / Path(name).stem
        if not unpacked.exists():
            continue
        content = archive.read_bytes() if archive.exists() else b""
        sound = hashlib.md5(content, usedforsecurity=False).hexdigest() == published
        if not sound or gzip.decompress(content) != unpacked.read_bytes():
            unpacked.unlink()


def _read_folder(path: str, size: int | None, content: str) -> _Source:
    images, labels, classes, cut = folders.read(path, size, content)
    everything = Split(images, labels)
    if cut < len(everything):
        return everything[:cut], everything[cut:], classes
    train, test = _parted(labels, classes, path)
    return everything[train], everything[test], classes


def _parted(labels: Tensor, classes: tuple[str, ...], path: str) -> tuple[Tensor, Tensor]:
    """Indices of training images and test images: a random fifth of each class is for the test."""
    train, test, small = [], [], []
    for label, name in enumerate(classes):
        members = (labels == label).nonzero()[:, 0]
        shuffled, fifth = members[_order(len(members))], len(members) // 5
        test.append(shuffled[:fifth])
        train.append(shuffled[fifth:])
        if not fifth:
            small.append(f"{len(members)} of {name}")
    words = (
        f"each class in {path} must have at least 5 images, for one of them to be in the test "
        f"split, not {', '.join(small)}"
    )
    if len(small) == len(classes):
        raise DataError(words)
    if small:
        warnings.warn(words, stacklevel=2)
    return torch.cat(train), torch.cat(test)
