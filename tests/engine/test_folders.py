"""A folder of images: every picture under its own label, or an error that says what to do."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngInfo

from labkit.base.places import DataError
from labkit.engine import folders
from labkit.engine.data import load
from labkit.engine.training import Recipe
from labkit.experiments.experiment import Experiment, all_trials
from labkit.experiments.running import Finished, run
from labkit.experiments.task import Task

# Your own folder of images.


def save(file: Path, width: int, height: int, level: int = 0, mode: str = "RGB") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (level, 100, 200)).convert(mode).save(file)


def test_a_folder_gives_a_fifth_of_each_class_to_the_test_set(tmp_path):
    for kind, n in (("cats", 10), ("dogs", 15)):
        for i in range(n):
            save(tmp_path / kind / f"{i}.png", 20, 20, level=i)
    loaded = load(f"folder:{tmp_path}", validation=4)
    assert loaded.classes == ("cats", "dogs") and loaded.image_shape == (3, 20, 20)
    assert loaded.test.labels.bincount().tolist() == [2, 3]
    labels = torch.cat([loaded.train.labels, loaded.validation.labels])
    assert labels.bincount().tolist() == [8, 12]
    # Each image went to exactly one split: the level of red tells which image it is.
    seen = [
        (int(label), int(image[0, 0, 0]))
        for split in (loaded.train, loaded.validation, loaded.test)
        for image, label in zip(split.images, split.labels, strict=True)
    ]
    assert sorted(seen) == [(0, i) for i in range(10)] + [(1, i) for i in range(15)]


def test_a_folder_with_train_and_test_keeps_them(tmp_path):
    for part, n in (("train", 4), ("test", 2)):
        for kind in ("a", "b"):
            for i in range(n):
                save(tmp_path / part / kind / f"{i}.png", 12, 10, mode="L" if i else "P")
    loaded = load(f"folder:{tmp_path}", validation=1)
    assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (7, 1, 4)
    assert loaded.image_shape == (3, 10, 12)


def test_images_of_a_folder_are_cut_square_and_shrunk_by_area(tmp_path):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, 4:12] = np.arange(8, dtype=np.uint8)[None, :, None] * 20  # the centred square
    for kind in ("a", "b"):
        for i in range(5):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / kind / f"{i}.png")
    image = load(f"folder:{tmp_path}", validation=0, image_size=4).test.images[0]
    assert image[0].tolist() == [[10, 50, 90, 130]] * 4


def test_photographs_are_turned_upright(tmp_path):
    for kind in ("a", "b"):
        (tmp_path / kind).mkdir()
        exif = Image.Exif()
        exif[0x0112] = 6  # orientation: turn a quarter to see it upright
        for i in range(5):
            Image.new("RGB", (12, 6)).save(tmp_path / kind / f"{i}.jpg", exif=exif)
    assert load(f"folder:{tmp_path}", validation=0).image_shape == (1, 12, 6)


def folder_of_two_sizes(folder: Path) -> None:
    for kind in ("a", "b"):
        for i in range(5):
            save(folder / kind / f"{i}.png", 20 + i, 20)


def one_class(folder: Path) -> None:
    save(folder / "a" / "0.png", 20, 20)


def few_images(folder: Path) -> None:
    for kind in ("a", "b"):
        save(folder / kind / "0.png", 20, 20)


def other_classes(folder: Path) -> None:
    for path in ("train/a", "train/b", "test/a", "test/c"):
        save(folder / path / "0.png", 20, 20)


def an_empty_class(folder: Path) -> None:
    few_images(folder)
    (folder / "c").mkdir()


def an_empty_test_split(folder: Path) -> None:
    few_images(folder / "train")
    for kind in ("a", "b"):
        (folder / "test" / kind).mkdir(parents=True)


@pytest.mark.parametrize(
    ("make", "size", "message"),
    [
        (folder_of_two_sizes, None, "image_size must be a whole number .* differ in size"),
        (folder_of_two_sizes, 21, r"image_size for .*png must be .* 1 to 20 or None, not 21"),
        (one_class, None, r"2 or more class folders.*\['a'\]"),
        (few_images, None, r"each class in .* at least 5 images.*, not 1 of a, 1 of b"),
        (other_classes, None, r"among those for training, not \['a', 'b'\], \['a', 'c'\]"),
        (an_empty_class, None, r"no picture \(\.bmp, .*\) of c"),
        (an_empty_test_split, None, r"test has no picture .* of any class"),
        (lambda folder: None, None, "cannot read folders of images in .*pictures"),
    ],
)
def test_a_folder_that_cannot_be_used_says_why(tmp_path, make, size, message):
    make(tmp_path / "pictures")
    with pytest.raises(ValueError, match=message):
        load(f"folder:{tmp_path / 'pictures'}", validation=0, image_size=size)


@pytest.mark.parametrize("path", ["~nosuchuser/pictures", "zero\0", "file"])
def test_a_path_that_is_no_folder_is_named(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(DataError, match="cannot read folders of images in"):
        load(f"folder:{path}")


# Splits, whatever they are called.


def split(folder: Path, *parts: str) -> None:
    """Each part with two classes of 3 pictures."""
    for part in parts:
        for kind in ("a", "b"):
            for i in range(3):
                save(folder / part / kind / f"{i}.png", 8, 8, level=i)


@pytest.mark.parametrize(
    ("train", "test"),
    [("train", "test"), ("Train", "Test"), ("TRAIN", "val"), ("training", "validation"),
     ("seg_train", "seg_test"), ("training_set", "test_set"), ("trainset", "testset")],
)  # fmt: skip
def test_splits_are_recognised_by_any_of_their_names(tmp_path, train, test):
    split(tmp_path, train, test)
    save(tmp_path / train / "a" / "more.png", 8, 8)
    loaded = load(f"folder:{tmp_path}", validation=0)
    assert loaded.classes == ("a", "b"), "and not training pictures and test pictures"
    assert (len(loaded.train), len(loaded.test)) == (7, 6)


def test_of_three_splits_the_one_that_is_not_used_is_named(tmp_path):
    split(tmp_path, "train", "test", "val")
    with pytest.warns(UserWarning, match=r"pictures in .*val are not used"):
        loaded = load(f"folder:{tmp_path}", validation=2)
    assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (4, 2, 6)


def test_a_class_may_be_called_train(tmp_path):
    for kind in ("bus", "train"):
        for i in range(5):
            save(tmp_path / kind / f"{i}.png", 8, 8)
    assert load(f"folder:{tmp_path}", validation=0).classes == ("bus", "train")


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: split(folder, "train"),
        lambda folder: split(folder, "train", "Training"),
        lambda folder: split(folder, "train", "test", "c"),
        lambda folder: split(folder, "first", "second"),
        lambda folder: [save(folder / part / "0.png", 8, 8) for part in ("train", "test")],
        lambda folder: [split(folder, "train"), save(folder / "test" / "0.png", 8, 8)],
    ],
    ids=["train alone", "two for training", "a class beside", "names unknown", "no classes",
         "no classes for testing"],
)  # fmt: skip
def test_what_could_be_splits_or_classes_is_refused(tmp_path, make):
    make(tmp_path)
    with pytest.raises(
        DataError, match=r"one folder per class .* train and test .*could be either"
    ):
        load(f"folder:{tmp_path}", validation=0)


def test_a_class_that_is_too_small_for_the_split_is_named(tmp_path):
    for kind, n in (("cats", 5), ("dogs", 4)):
        for i in range(n):
            save(tmp_path / kind / f"{i}.png", 8, 8)
    with pytest.warns(UserWarning, match=r"at least 5 images.* not 4 of dogs"):
        loaded = load(f"folder:{tmp_path}", validation=0)
    assert loaded.test.labels.tolist() == [0]


def test_a_test_split_may_lack_a_class_and_says_so(tmp_path):
    split(tmp_path, "train", "test")
    for file in (tmp_path / "test" / "a").iterdir():
        file.unlink()
    with pytest.warns(UserWarning, match=r"test has no picture of a:"):
        loaded = load(f"folder:{tmp_path}", validation=0)
    assert loaded.classes == ("a", "b") and loaded.test.labels.tolist() == [1] * 3
    (tmp_path / "test" / "a").rmdir()
    with pytest.warns(UserWarning, match=r"test has no picture of a:"):
        load(f"folder:{tmp_path}", validation=0, image_size=4)


# Links, pipes, and what systems leave behind.


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A folder of two classes of 5 pictures, which no test before has read."""
    for kind in ("a", "b"):
        for i in range(5):
            save(tmp_path / "pictures" / kind / f"{i}.png", 8, 8, level=i)
    time.sleep(0.02)  # file systems count time in ticks, of up to a hundredth of a second
    return tmp_path / "pictures"


@pytest.mark.parametrize(
    ("link", "target"),
    [("a/up", ".."), ("a/up", "../.."), ("a/other", "../b"), ("a/9.png", "../b/0.png"),
     ("a/self", "."), ("a/9.png", "0.png"), ("a/9.png", "nowhere.png"), ("a/9.png", "9.png")],
)  # fmt: skip
def test_a_link_inside_a_class_is_refused(pictures, link, target):
    (pictures / link).symlink_to(target)
    with pytest.raises(DataError, match=rf"{link} is a link to .*put the pictures themselves"):
        load(f"folder:{pictures}", validation=0)


@pytest.mark.parametrize("target", ["a", ".", "..", "a/inner"])
def test_a_class_that_is_a_link_into_another_is_refused(pictures, target):
    save(pictures / "a/inner/0.png", 8, 8)
    (pictures / "c").symlink_to(target)
    with pytest.raises(DataError, match="class folders must have no picture in common"):
        load(f"folder:{pictures}", validation=0)


def test_a_class_may_be_a_link_to_elsewhere(pictures):
    (pictures / "b").rename(pictures.parent / "elsewhere")
    (pictures / "b").symlink_to(pictures.parent / "elsewhere")
    assert load(f"folder:{pictures}", validation=0).test.labels.tolist() == [0, 1]


def test_a_pipe_does_not_hang(pictures):
    os.mkfifo(pictures / "a" / "9.png")
    with pytest.raises(DataError, match=r"9\.png must be a file with a picture, not a pipe"):
        load(f"folder:{pictures}", validation=0)


def test_hidden_files_and_those_of_systems_are_passed_over(pictures):
    before = load(f"folder:{pictures}", validation=0)
    known = folders.digest(str(pictures))
    for name in (".ipynb_checkpoints/a/0.png", "__MACOSX/a/0.png", "a/.ipynb_checkpoints/0.png",
                 "a/._1.png", "a/.DS_Store", "a/Thumbs.db", "b/desktop.ini", ".git/0.png",
                 "a/__MACOSX/1.png", "Thumbs.db", "b/notes.txt"):  # fmt: skip
        file = pictures / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"not a picture")
    after = load(f"folder:{pictures}", validation=0)
    assert after.classes == ("a", "b") and len(after.train) == len(before.train)
    assert folders.digest(str(pictures)) == known


# Pixels.


def of(folder: Path, make) -> torch.Tensor:
    """The test image (C, H, W) of two classes of 5 equal pictures, which `make` saves to a path."""
    for kind in ("a", "b"):
        for i in range(5):
            (folder / kind).mkdir(exist_ok=True)
            make(folder / kind / str(i))
    return load(f"folder:{folder}", validation=0).test.images[0]


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    levels = np.array([[0, 128, 129, 257, 32_768, 65_535]], np.uint16)
    for suffix in ("png", "tif"):
        (tmp_path / suffix).mkdir()
        image = of(
            tmp_path / suffix,
            lambda path, suffix=suffix: Image.fromarray(levels).save(f"{path}.{suffix}"),
        )
        assert image.tolist() == [[[0, 0, 1, 1, 128, 255]]]


def test_a_portable_graymap_of_sixteen_bits_is_scaled_too(tmp_path):
    content = b"P5 3 1 65535\n" + np.array([0, 32_768, 65_535], ">u2").tobytes()
    image = of(tmp_path, lambda path: path.with_suffix(".pgm").write_bytes(content))
    assert image.tolist() == [[[0, 128, 255]]]


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_pixels_without_a_known_range_are_refused(tmp_path, kind):
    picture = Image.fromarray(np.ones((8, 8), kind))
    with pytest.raises(DataError, match=r"0\.tif: its pixels have 32 bits and no known range"):
        of(tmp_path, lambda path: picture.save(f"{path}.tif"))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_grey_pictures_have_one_channel_however_they_are_stored(tmp_path, mode):
    grey = Image.new("L", (8, 8), 255).convert(mode)
    assert of(tmp_path, lambda path: grey.save(f"{path}.png")).tolist() == [[[255] * 8] * 8]


def test_one_coloured_picture_makes_the_folder_coloured(pictures):
    for file in pictures.rglob("*.png"):
        Image.new("L", (8, 8), 7).save(file)
    assert load(f"folder:{pictures}", validation=0).image_shape == (1, 8, 8)
    save(pictures / "a/0.png", 8, 8)
    assert load(f"folder:{pictures}", validation=0).image_shape == (3, 8, 8)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_put_on_white(tmp_path, mode):
    picture = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    picture.putpixel((1, 0), (0, 0, 0, 0))
    image = of(tmp_path, lambda path: picture.convert(mode).save(f"{path}.png"))
    assert image.tolist() == [[[0, 255]]]


def test_half_transparent_black_is_grey(tmp_path):
    picture = Image.new("RGBA", (1, 1), (0, 0, 0, 51))
    assert of(tmp_path, lambda path: picture.save(f"{path}.png")).item() == 204


def test_warnings_of_pillow_do_not_leak(pictures, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # and here any warning is an error
    assert len(load(f"folder:{pictures}", validation=0).test) == 2


def test_a_link_that_leads_to_itself_is_no_class(pictures):
    (pictures / "c").symlink_to("c")
    (pictures / "a" / "notes").symlink_to("notes")
    assert load(f"folder:{pictures}", validation=0).classes == ("a", "b")


@pytest.mark.parametrize("content", [b"", b"not a picture"])
@pytest.mark.parametrize("suffix", folders.SUFFIXES)
def test_what_is_no_picture_is_named(pictures, suffix, content):
    (pictures / f"a/3{suffix}").write_bytes(content)
    with pytest.raises(DataError, match=rf"cannot read the image .*a/3\{suffix}"):
        load(f"folder:{pictures}", validation=0)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "bmp", "ppm"])
def test_a_damaged_picture_is_read_or_named(pictures, suffix):
    file = pictures / f"a/3.{suffix}"
    save(file, 8, 8)
    whole, random, named = file.read_bytes(), np.random.default_rng(0), 0
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[random.integers(len(whole))] ^= 1 << random.integers(8)
        file.write_bytes(damaged[: random.integers(1, 2 * len(whole))])
        try:
            load(f"folder:{pictures}", validation=0)
        except ValueError as error:
            assert str(file) in str(error)
            named += 1
    assert named > 10, "half of them are cut short"


def test_a_value_error_of_pillow_names_the_file(pictures):
    text = PngInfo()
    text.add_text("comment", "x" * 2**21, zip=True)
    Image.new("RGB", (8, 8)).save(pictures / "b/9.png", pnginfo=text)
    with pytest.raises(DataError, match=r"cannot read the image .*b/9\.png: Decompressed [Dd]ata"):
        load(f"folder:{pictures}", validation=0)


def test_a_huge_picture_is_named_and_not_decoded(pictures, monkeypatch):
    Image.new("1", (13_000, 13_000)).save(pictures / "a/huge.png")
    decode = ImageFile.ImageFile.load
    decoded = []
    monkeypatch.setattr(
        ImageFile.ImageFile, "load", lambda image: (decoded.append(image.width), decode(image))[1]
    )
    with pytest.raises(DataError, match=r"a/huge\.png: it has 13000 x 13000 pixels.*67,108,864"):
        load(f"folder:{pictures}", validation=0, image_size=8)
    assert set(decoded) == {8}


# The digest of what is in a folder.


def test_the_digest_is_that_of_the_content_and_not_of_the_place(pictures):
    known = folders.digest(str(pictures))
    moved = pictures.rename(pictures.parent / "moved")
    os.utime(moved / "a/0.png", (0, 0))
    assert folders.digest(str(moved)) == known


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: save(folder / "a/0.png", 8, 8, level=99),
        lambda folder: save(folder / "a/9.png", 8, 8),
        lambda folder: (folder / "a/0.png").unlink(),
        lambda folder: (folder / "a/0.png").rename(folder / "a/9.png"),
        lambda folder: (folder / "a/0.png").rename(folder / "b/9.png"),
        lambda folder: (folder / "a").rename(folder / "c"),
        lambda folder: save(folder / "c/0.png", 8, 8),
    ],
    ids=["other bytes", "one more", "one less", "renamed", "other class", "class renamed",
         "one class more"],
)  # fmt: skip
def test_every_change_changes_the_digest(pictures, change):
    before = folders.digest(str(pictures))
    change(pictures)
    assert folders.digest(str(pictures)) != before


def test_a_change_that_keeps_size_and_time_is_seen(pictures):
    file = pictures / "a/0.png"
    before, told = folders.digest(str(pictures)), file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(told.st_atime_ns, told.st_mtime_ns))
    assert folders.digest(str(pictures)) != before


def test_files_are_digested_once_while_they_stay_as_they_are(pictures, monkeypatch):
    known = folders.digest(str(pictures))
    monkeypatch.setattr(folders, "_content", lambda file: pytest.fail("read again"))
    assert folders.digest(str(pictures)) == known


def test_changed_images_are_loaded_anew(pictures):
    before = load(f"folder:{pictures}", validation=0)
    for file in pictures.rglob("*.png"):
        save(file, 8, 8, level=200)
    after = load(f"folder:{pictures}", validation=0)
    assert before.train.images[:, 0].max() < 200 and after.train.images[:, 0].min() == 200


def test_images_that_change_while_they_are_read_are_refused(pictures):
    with pytest.raises(DataError, match="have changed while they were in use"):
        folders.read(str(pictures), None, "another digest")


# Results are addressed by what is in the folder.


@pytest.fixture
def experiment(pictures) -> Experiment:
    task = Task(f"folder:{pictures}", "lenet-4-4", Recipe(iterations=4, batch_size=2), validation=2)
    return Experiment(task, rounds=1, seeds=(0,), evaluate_every=2)


def keys(experiment: Experiment) -> set[str]:
    return {trial.key for trial in all_trials(experiment)}


def test_changed_images_are_trained_again_and_former_ones_are_not(pictures, experiment, store):
    def trained() -> int:
        return sum(isinstance(event, Finished) for event in run(experiment, store))

    assert trained() == 2
    assert trained() == 0
    image = (pictures / "a/0.png").read_bytes()
    save(pictures / "a/0.png", 8, 8, level=99)
    assert trained() == 2, "not those of the old images"
    (pictures / "a/0.png").write_bytes(image)
    assert trained() == 0, "the old images have their old results"


def test_a_stopped_run_does_not_go_on_with_other_images(pictures, experiment, store):
    events = run(experiment, store)
    next(event for event in events if isinstance(event, Finished))
    save(pictures / "a/0.png", 8, 8, level=99)
    with pytest.raises(DataError, match=r"images in .*pictures must be those with the digest"):
        list(events)


def test_the_folder_may_move_and_two_folders_of_one_name_differ(
    pictures, experiment, monkeypatch, tmp_path
):
    before = keys(experiment)
    for name in ("here", "there"):
        shutil.copytree(pictures, tmp_path / name / "own")
    save(tmp_path / "there/own/a/0.png", 8, 8, level=99)
    own = replace(experiment, task=replace(experiment.task, dataset="folder:own"))
    monkeypatch.chdir(tmp_path / "here")
    assert keys(own) == before
    monkeypatch.chdir(tmp_path / "there")
    assert not keys(own) & before


def test_trials_stay_those_of_the_images_they_were_made_for(pictures, experiment):
    trials = all_trials(experiment)
    before = [(t.key, t.dense_key(1), t.parent.key if t.round else "") for t in trials]
    save(pictures / "a/0.png", 8, 8, level=99)
    assert before == [(t.key, t.dense_key(1), t.parent.key if t.round else "") for t in trials]
    assert not {key for key, *_ in before} & keys(experiment)


def test_a_result_says_which_images_it_is_of(pictures, experiment):
    told = all_trials(experiment)[0].describe()["task"]
    assert told["content"] == folders.digest(str(pictures))


@pytest.mark.parametrize(
    ("dataset", "content", "message"),
    [("mnist", "abc", "task.content must be None for mnist, not 'abc'"),
     ("folder:x", 3, "task.content must be a str, not 3")],
)  # fmt: skip
def test_only_own_images_have_a_content(dataset, content, message):
    with pytest.raises(ValueError, match=message):
        Task(dataset, content=content)
