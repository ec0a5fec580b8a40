"""Folders of images as no one should make them: every picture under its own label, or an error.

The colour of a picture tells its class, so a wrong label is seen. Names, links, pipes, splits,
formats, sizes and damage are random.
"""

import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from PIL import Image

from labkit.engine.data import Data, load
from tests.torture.figures import Figure
from tests.torture.limits import Watch, little_memory

COUNT = 2_000
CLASSES = ("cats", "dogs", "train", "Test", "9", "ü", "a b", ".hidden", "__MACOSX", "val", "a\nb")
SUFFIXES = ("png", "bmp", "jpg", "tif", "webp", "ppm", "PNG", "gif", "txt")
MODES = ("RGB", "L", "P", "1", "RGBA", "LA", "CMYK", "I", "F", "I;16")


def torture(count: int, seed: int, folder: Path) -> list[Figure]:
    """Make and load `count` folders. Figures: labels, errors, and what hangs."""
    dice, watch = Random(seed), Watch()
    labels = Figure("folders that load: every picture under its own label")
    errors = Figure("folders that do not: an error in words that names what is wrong")
    hangs = Figure("folders that do not hang for 10 s")
    with warnings.catch_warnings(), little_memory():
        warnings.simplefilter("ignore")
        for number in range(count):
            root = folder / str(number)
            told = _make(root, dice)
            size = dice.choice((None, 1, 4, 4, 4, 9))
            with watch:
                try:
                    data = load(f"folder:{root}", validation=0, image_size=size)
                except ValueError as error:
                    errors.count(str(root) in str(error) or "image" in str(error), f"{error}")
                except Exception as error:
                    errors.count(False, f"{told}: {type(error).__name__}: {error}")
                else:
                    labels.count(_is_right(data), f"{told}: {data.classes}")
            hangs.count(not watch.hung, told)
            _remove(root)
    hangs.note = f"longest {watch.longest:.1f} s of the processor"
    return [labels, errors, hangs]


def _make(root: Path, dice: Random) -> str:
    """A folder of two or three classes, with some of what is odd; what that is."""
    root.mkdir()
    plain = dice.random() < 0.5
    classes = dice.sample(("cats", "dogs", "birds") if plain else CLASSES, dice.randint(2, 3))
    splits = dice.choice(((), (), ("train", "test"), ("Train", "Val"), ("a", "train")))
    for part in splits or ("",):
        for name in classes:
            for i in range(dice.randint(4, 6)):
                _picture(root / part / name / f"{i}.png", classes.index(name), 8, "RGB")
    odd = dice.sample(ODD, dice.choice((0, 1, 1, 2)))
    for make in odd:
        places = [path for path in root.rglob("*") if path.is_dir()] + [root]
        with suppress(OSError):  # two of them may be in each other's way
            make(dice.choice(places), classes, dice)
    return f"{splits} {classes} {[make.__name__ for make in odd]}"


def _picture(path: Path, label: int, size: int, mode: str) -> None:
    """A picture whose colour is that of its class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size), _colour(label)).convert(mode).save(path)


def _colour(label: int) -> tuple[int, int, int]:
    return (20 + 70 * label,) * 3


def _is_right(data: Data) -> bool:
    """Whether pictures of one label have one colour, which no other label has. JPEG and palettes
    may change it a little; pictures that were made by chance have none that counts, nor has a pixel
    in black and white.
    """
    seen: dict[int, set[int]] = {}
    for split in (data.train, data.test):
        for image, label in zip(split.images, split.labels.tolist(), strict=True):
            level = round(image.float().mean().item())
            nearest = max(0, round((level - 20) / 70))
            if image.float().std(correction=0) < 3 and abs(level - _colour(nearest)[0]) < 10:
                seen.setdefault(label, set()).add(nearest)
    return all(not one & other for a, one in seen.items() for b, other in seen.items() if a < b)


# What is odd. Each is made in some folder of it.


def _own(place: Path, classes: list[str]) -> int:
    """The label of a place, or one more than there are: what is odd may become a class."""
    return next((n for n, name in enumerate(classes) if name in place.parts), len(classes))


def _link_up(place: Path, classes: list[str], dice: Random) -> None:
    (place / "up").symlink_to(dice.choice(("..", "../..", ".", "/", "up")))


def _link_to_picture(place: Path, classes: list[str], dice: Random) -> None:
    (place / "99.png").symlink_to(dice.choice(("../cats/0.png", "0.png", "nowhere", "99.png")))


def _linked_class(place: Path, classes: list[str], dice: Random) -> None:
    (place / "another").symlink_to(dice.choice(classes))


def _pipe(place: Path, classes: list[str], dice: Random) -> None:
    os.mkfifo(place / dice.choice(("77.png", "77.txt", "77")))


def _damaged(place: Path, classes: list[str], dice: Random) -> None:
    for path in place.glob("0.png"):
        content = bytearray(path.read_bytes())
        for _ in range(dice.randint(1, 9)):
            content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        path.write_bytes(content[: dice.randint(0, 2 * len(content))])


def _no_picture(place: Path, classes: list[str], dice: Random) -> None:
    content = dice.choice((b"", b"P6 9 9 255\n", b"\x89PNG\r\n\x1a\n", dice.randbytes(99)))
    (place / f"55.{dice.choice(SUFFIXES)}").write_bytes(content)


def _left_behind(place: Path, classes: list[str], dice: Random) -> None:
    for name in (".DS_Store", "Thumbs.db", "._1.png", "desktop.ini"):
        (place / name).write_bytes(b"\0")
    (place / ".ipynb_checkpoints").mkdir()
    (place / ".ipynb_checkpoints" / "0.png").write_bytes(b"\0")


def _huge(place: Path, classes: list[str], dice: Random) -> None:
    Image.new("1", (9_000, 9_000)).save(place / "66.png")


def _other_form(place: Path, classes: list[str], dice: Random) -> None:
    for _ in range(3):
        with suppress(ValueError, KeyError):  # not every format has every mode
            path = place / f"{dice.randrange(100, 999)}.{dice.choice(SUFFIXES)}"
            _picture(path, _own(place, classes), dice.choice((1, 4, 8, 8, 31)), dice.choice(MODES))


def _empty_class(place: Path, classes: list[str], dice: Random) -> None:
    (place / dice.choice(("empty", "test", "TRAIN", "validation"))).mkdir()


def _folder_called_picture(place: Path, classes: list[str], dice: Random) -> None:
    (place / "44.png").mkdir()


def _unreadable(place: Path, classes: list[str], dice: Random) -> None:
    for path in place.glob("1.png"):
        path.chmod(0)


ODD: tuple[Callable[[Path, list[str], Random], None], ...] = (
    _link_up, _link_to_picture, _linked_class, _pipe, _damaged, _no_picture, _left_behind, _huge,
    _other_form, _empty_class, _folder_called_picture, _unreadable,
)  # fmt: skip


def _remove(root: Path) -> None:
    for path, folders, files in os.walk(root, topdown=False):
        for name in files:
            (Path(path) / name).unlink()
        for name in folders:
            inner = Path(path) / name
            inner.unlink() if inner.is_symlink() else inner.rmdir()
    root.rmdir()
