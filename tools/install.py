"""Set up .venv for the lab, on Linux, a Mac and Windows alike; `make` calls this.

python tools/install.py [EXTRA ...]    extras of pyproject.toml; none means lab

uv takes half a minute where pip takes two, but pip is what every machine can do. On a Linux machine
without an NVIDIA driver PyTorch's CPU build is taken, a sixth of the size, where its index can be
reached; elsewhere PyPI has the right build.
"""

from __future__ import annotations  # an old Python must come as far as the message that it is old

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
OLDEST = (3, 10)
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def cpu_index(index: str = CPU_INDEX) -> str | None:
    """The index of PyTorch's CPU builds, if this machine should and can use it."""
    driver = shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists()
    if sys.platform != "linux" or driver or "UV_TORCH_BACKEND" in os.environ:
        return None
    try:
        urlopen(f"{index}/torch/", timeout=5).close()
    except OSError:  # no network, or a mirror that has PyPI alone
        return None
    return index


def attempts(python: Path, uv: Path, extras: list[str], index: str | None) -> list[list[str]]:
    """The commands that may install the lab, the best first."""
    what = ["-c", "constraints.txt", "-e", f".[{','.join(extras)}]"]
    by_uv = [str(uv), "pip", "install", "--python", str(python), *what]
    by_pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", *what]
    found = [by_uv, by_pip]
    if index:
        cpu_by_uv = [*by_uv, "--torch-backend", "cpu"]
        found = [cpu_by_uv, by_uv, [*by_pip, "--extra-index-url", index], by_pip]
    return [command for command in found if command[0] != str(uv) or uv.exists()]


def main(extras: list[str]) -> int:
    """Make .venv where it is missing or has no working pip, and install into it."""
    if sys.version_info < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        print(f"The lab needs Python {wanted} or newer, not {sys.version.split()[0]}; "
              "with make: make setup PYTHON=python3.12", file=sys.stderr)  # fmt: skip
        return 1
    folder, suffix = ("Scripts", ".exe") if os.name == "nt" else ("bin", "")
    python, uv = (VENV / folder / (name + suffix) for name in ("python", "uv"))
    pip = [str(python), "-m", "pip"]
    if not python.exists() or subprocess.run([*pip, "--version"], capture_output=True).returncode:
        try:
            venv.create(VENV, clear=True, with_pip=True, symlinks=os.name != "nt")
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"Could not make {VENV} ({error}); on Debian and Ubuntu: "
                  "apt install python3-venv", file=sys.stderr)  # fmt: skip
            return 1
    subprocess.run([*pip, "install", "--quiet", "--disable-pip-version-check", "uv"], check=False)
    for command in attempts(python, uv, extras or ["lab"], cpu_index()):
        if subprocess.run(command, cwd=ROOT, check=False).returncode == 0:
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
