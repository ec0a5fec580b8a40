"""The address of the repository, and the tag of its release, in every place that names them.

python tools/address.py               brings all in step with pyproject.toml
python tools/address.py OWNER/REPO    makes this a fork at that address

The address stands in pyproject.toml, `Repository`; badges, the set-up cell, README and CITATION
follow. Badges and the set-up cell open the release of pyproject's version, tag vVERSION.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT = {".cff", ".ipynb", ".json", ".md", ".py", ".toml", ".yml"}
NAME = r"[\w.-]*\w"
SLUG = f"{NAME}/{NAME}"


def project(text: str) -> tuple[str, str]:
    """OWNER/REPO and the version that a pyproject.toml names."""
    address = re.search(rf'^Repository = "https://github\.com/({SLUG})"$', text, re.MULTILINE)
    version = re.search(r'^version = "(.+)"$', text, re.MULTILINE)
    assert address and version, "pyproject.toml lost its Repository or its version"
    return address[1], version[1]


def moved(text: str, old: str, new: str, version: str) -> str:
    """A text whose addresses at GitHub, Colab and Binder are those of `new`, at the tag."""
    text = re.sub(rf"(?<=github\.com/){re.escape(old)}(?![\w-])", new, text)
    text = re.sub(
        rf"(?<=research\.google\.com/github/){SLUG}/blob/[^/]+", f"{new}/blob/v{version}", text
    )
    text = re.sub(rf"(?<=mybinder\.org/v2/gh/){SLUG}/[^/?]+", f"{new}/v{version}", text)
    return re.sub(r"(--branch )v[\d.]+(?= {address})", rf"\g<1>v{version}", text)


def rewrite(root: Path, new: str | None = None) -> list[Path]:
    """Bring all files that git has in step, and return those that were not."""
    old, version = project((root / "pyproject.toml").read_text(encoding="utf-8"))
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True)
    changed = []
    for path in (root / name for name in listed.stdout.decode().split("\0") if name):
        if path.suffix not in TEXT or not path.is_file():
            continue
        before = path.read_bytes().decode("utf-8")
        after = moved(before, old, new or old, version)
        if after != before:
            path.write_bytes(after.encode("utf-8"))
            changed.append(path)
    return changed


def main(words: list[str]) -> int:
    if len(words) > 1 or (words and not re.fullmatch(SLUG, words[0])):
        print(f"the address must be one OWNER/REPO, not {' '.join(words)!r}", file=sys.stderr)
        return 2
    for path in rewrite(ROOT, *words):
        print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
