"""A folder of images as tensors: which files are pictures, of which class, and their pixels.

It holds one folder per class; or one for training and one for testing, which hold one folder per
class each. What could be read in two ways, or would put a picture under a wrong label, is refused.
Results are addressed by what is in the folder, so this module also gives the digest of that.
"""

import hashlib
import io
import json
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from labkit.base.places import DataError
from labkit.base.validation import whole

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
SYSTEM = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")
SPLITS = {  # kind -> words that name such a folder
    "train": {"train", "training"},
    "test": {"test", "testing"},
    "validation": {"val", "valid", "validation", "eval", "evaluation", "dev"},
}
MOST_PIXELS = 2**26  # 67 million; Pillow takes 4 bytes for each, and several copies
DECODING = 1  # part of every digest: raise it when the same files give other pixels


class Picture(NamedTuple):
    """A file, and the label that its folder gives it. name: relative to the folder of all."""

    file: str
    name: str
    label: int


@dataclass(frozen=True)
class Listing:
    """What is in a folder of images, unread.

    test: empty where the folder has no test split. remarks: what its owner should know.
    """

    classes: tuple[str, ...]
    train: tuple[Picture, ...]
    test: tuple[Picture, ...]
    remarks: tuple[str, ...]


def digest(path: str) -> str:
    """SHA-256 of what is in a folder of images now: names, classes, and the bytes of its files.

    Files are read again only where their times or sizes have changed. Raises DataError for a folder
    that cannot be used.
    """
    listing = listed(path)
    try:
        states = [os.stat(picture.file) for picture in _all(listing)]
    except OSError as error:
        raise DataError(f"cannot read a picture in {path}: {error}") from error
    return _digest(
        listing, tuple((s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in states)
    )


def read(path: str, size: int | None, content: str) -> tuple[Tensor, Tensor, tuple[str, ...], int]:
    """Images (N, C, H, W) as uint8, labels (N,), names of the classes, and the number of training
    images, which come first; all N, where the folder has no test split.

    Grey pictures have one channel if all of them are grey, and three otherwise. 16 bits are scaled
    to 8; what is transparent is put on white; photographs are turned upright.
    size: the largest centred square of each picture is shrunk to it; None keeps the sizes.
    content: the digest that the folder must have. Raises DataError for another, and for files that
    cannot be used, which it names.
    """
    listing = listed(path)
    found, images = _Digest(listing), list[Tensor]()
    # Pillow warns of what it could read all the same, in words that name no file.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for data, image in _contents(_all(listing), size):
            found.add(data)
            images.append(image)
    if found.hexadecimal() != content:
        _digest.cache_clear()
        raise DataError(f"the images in {path} have changed while they were in use; run it again")
    for remark in listing.remarks:
        warnings.warn(remark, stacklevel=2)
    stacked = torch.stack(images)
    if (stacked == stacked[:, :1]).all():
        stacked = stacked[:, :1].contiguous()
    labels = torch.tensor([picture.label for picture in _all(listing)])
    return stacked, labels, listing.classes, len(listing.train)


def listed(path: str) -> Listing:
    """The pictures in a folder, their classes and splits. Raises DataError, see `digest`."""
    root = Path(os.path.expanduser(path))
    parts, remarks = _parts(root)
    names = [[entry.name for entry in _folders(part)] for part in parts]
    classes = names[0]
    if len(classes) < 2 or not set(names[-1]) <= set(classes):
        raise DataError(
            f"{path} must hold 2 or more class folders, and those for testing must be among those "
            f"for training, not {', '.join(map(str, names))}"
        )
    _check_apart([part / name for part, own in zip(parts, names, strict=True) for name in own])
    found = [
        [
            Picture(file, Path(file).relative_to(root).as_posix(), classes.index(name))
            for name in own
            for file in _pictures(part / name)
        ]
        for part, own in zip(parts, names, strict=True)
    ]
    lacking = [_lacking(classes, pictures) for pictures in found]
    if lacking[0] or not found[-1]:
        part, missing = (parts[0], lacking[0]) if lacking[0] else (parts[-1], "any class")
        raise DataError(f"{part} has no picture ({', '.join(SUFFIXES)}) of {missing}")
    if lacking[-1]:
        remarks += (f"{parts[-1]} has no picture of {lacking[-1]}: accuracy tells nothing of it",)
    test = found[1] if len(parts) > 1 else []
    return Listing(tuple(classes), tuple(found[0]), tuple(test), remarks)


def _lacking(classes: Sequence[str], pictures: Sequence[Picture]) -> str:
    present = {picture.label for picture in pictures}
    return ", ".join(name for label, name in enumerate(classes) if label not in present)


def _all(listing: Listing) -> tuple[Picture, ...]:
    return (*listing.train, *listing.test)


class _Digest:
    """The digest of a listing, to which the content of its pictures is added in order."""

    def __init__(self, listing: Listing) -> None:
        names = [[[name, label] for _, name, label in p] for p in (listing.train, listing.test)]
        self._hash = hashlib.sha256(json.dumps([DECODING, listing.classes, names]).encode())

    def add(self, content: bytes) -> None:
        self._hash.update(hashlib.sha256(content).digest())

    def hexadecimal(self) -> str:
        return self._hash.hexdigest()


@lru_cache(maxsize=8)
def _digest(listing: Listing, states: tuple[tuple[int, ...], ...]) -> str:
    """states: what changes when a file does."""
    found = _Digest(listing)
    for picture in _all(listing):
        found.add(_content(picture.file))
    return found.hexadecimal()


def _content(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the image {file}: {error}") from error


# Which files there are.


def _entries(folder: os.PathLike[str] | str) -> list[os.DirEntry[str]]:
    """What is in a folder, in order, without what is hidden and what systems leave behind."""
    try:
        with os.scandir(folder) as entries:
            seen = [e for e in entries if not e.name.startswith(".") and e.name not in SYSTEM]
    except (OSError, ValueError) as error:  # the last for a path with a zero in it
        raise DataError(f"cannot read folders of images in {folder}: {error}") from error
    return sorted(seen, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # entry.is_dir() alone fails for a link that leads to itself.
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry))


def _folders(folder: os.PathLike[str] | str) -> list[os.DirEntry[str]]:
    return [entry for entry in _entries(folder) if _is_folder(entry)]


def _is_picture(entry: os.DirEntry[str]) -> bool:
    return entry.name.lower().endswith(SUFFIXES) and not _is_folder(entry)


def _pictures(folder: os.PathLike[str] | str) -> Iterator[str]:
    """All pictures of a class, in folders inside its own too."""
    for entry in _entries(folder):
        if not (_is_folder(entry) or _is_picture(entry)):
            continue
        if entry.is_symlink():
            raise DataError(
                f"{entry.path} is a link to {os.path.realpath(entry.path)}, which may have another "
                "label; put the pictures themselves in the folder of their class"
            )
        if _is_folder(entry):
            yield from _pictures(entry.path)
        elif entry.is_file():
            yield entry.path
        else:  # reading a pipe would wait for ever
            raise DataError(f"{entry.path} must be a file with a picture, not a pipe or a device")


def _check_apart(folders: Sequence[Path]) -> None:
    """No class folder may be another or hold it, as one that is a link can."""
    places = sorted((folder.resolve(), folder) for folder in folders)
    for (outer, one), (inner, other) in pairwise(places):
        if inner.is_relative_to(outer):
            raise DataError(
                f"class folders must have no picture in common, but {one} is {outer}, and {other} "
                f"is {inner}"
            )


def _kind(name: str) -> str | None:
    """Which split a folder's name tells, such as test for "Test", "testset" and "seg_test"."""
    words = {w.removesuffix("set").removesuffix("data") for w in re.findall("[a-z]+", name.lower())}
    kinds = [kind for kind, known in SPLITS.items() if known & words]
    return kinds[0] if len(kinds) == 1 else None


def _parts(root: Path) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Its folder for training and its folder for testing, or the folder itself where it has no
    splits; and remarks.
    """
    folders = _folders(root)
    # A class may be called "train", too, as in "bus, car, train": it holds pictures, not classes.
    outer = {f.name for f in folders if not any(map(_is_picture, _entries(f))) and _folders(f)}
    kinds: dict[str, list[str]] = {"train": [], "test": [], "validation": []}
    for entry in folders:
        if (kind := _kind(entry.name)) and entry.name in outer:
            kinds[kind].append(entry.name)
    splits = sorted(name for names in kinds.values() for name in names)
    names = [entry.name for entry in folders]
    if splits:
        fit = len(kinds["train"]) == 1 and len(kinds["test"]) <= 1 and len(kinds["validation"]) <= 1
        if splits != names or not fit or len(splits) < 2:
            raise _ambiguous(root, names)
        test, *unused = kinds["test"] + kinds["validation"]
        remarks = tuple(
            f"the pictures in {root / name} are not used: the lab takes its validation images from "
            f"{root / kinds['train'][0]}"
            for name in unused
        )
        return (root / kinds["train"][0], root / test), remarks
    inner = {frozenset(entry.name for entry in _folders(folder)) for folder in folders}
    alike = len(names) > 1 and outer == set(names) and len(inner) == 1 and len(min(inner)) > 1
    if alike or (len(names) > 1 and all(map(_kind, names))):
        raise _ambiguous(root, names)
    return (root,), ()


def _ambiguous(root: Path, names: Sequence[str]) -> DataError:
    return DataError(
        f"{root} must hold one folder per class and nothing else, or two folders, train and test "
        f"(or val), with one folder per class each, not {', '.join(names)}, which could be either; "
        f"move or rename folders, or choose one inside, as with folder:{root / names[0]}"
    )


# Pixels.


def pixels(picture: Image.Image) -> Tensor:
    """An RGB picture as a tensor, uint8, (3, H, W)."""
    flat = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return flat.view(picture.height, picture.width, 3).permute(2, 0, 1)


def _contents(pictures: Sequence[Picture], size: int | None) -> Iterator[tuple[bytes, Tensor]]:
    """What each file holds, and that as pixels, (3, H, W)."""
    first = None
    for file, _, _ in pictures:
        content = _content(file)
        try:
            picture = _decoded(content)
        except Exception as error:  # Pillow's decoders meet damaged files with errors of any type
            raise DataError(f"cannot read the image {file}: {error}") from error
        if size is not None:
            whole(f"image_size for {file}", size, 1, min(picture.size), optional=True)
            picture = ImageOps.fit(picture, (size, size), Image.Resampling.BOX)
        first = first or picture.size
        if picture.size != first:
            raise ValueError(
                "image_size must be a whole number from 1, not None, when images differ in size "
                f"as {pictures[0].file} and {file} do"
            )
        yield content, pixels(picture)


def _decoded(content: bytes) -> Image.Image:
    """A file's content as an RGB picture."""
    with Image.open(io.BytesIO(content)) as opened:
        if opened.width * opened.height > MOST_PIXELS:
            raise ValueError(
                f"it has {opened.width} x {opened.height} pixels, and must have at most "
                f"{MOST_PIXELS:,}; make it smaller"
            )
        # Photographs say in their EXIF data which side is up.
        picture = ImageOps.exif_transpose(opened)
        if opened.mode.startswith("I;16") or (
            opened.mode == "I" and opened.format in ("PNG", "PPM")  # how Pillow keeps 16 bits there
        ):
            tags = getattr(opened, "tag_v2", {})  # a TIFF may have 12 bits
            return _scaled(picture, 2 ** tags.get(258, (16,))[0] - 1)
    if picture.mode in ("I", "F"):
        raise ValueError("its pixels have 32 bits and no known range; save it with 8 or 16 bits")
    if picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    return picture.convert("RGB")


def _scaled(picture: Image.Image, white: int) -> Image.Image:
    levels = np.asarray(picture).astype(np.int64)
    return Image.fromarray(((levels * 255 + white // 2) // white).astype(np.uint8)).convert("RGB")
