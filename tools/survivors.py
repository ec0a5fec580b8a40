"""The survivors at every pixel, round by round, for the picture on the front page.

python -m tools.survivors

Shipped results have no masks, so a short lottery is trained once more (LeNet-300-100 on MNIST,
600 iterations a round, one seed, in under a minute), and its counts are kept in
docs/survivors.json with what they were made by.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import labkit
from labkit import plain
from labkit.experiments.presets import preset
from tools import course

FILE = course.ROOT / "docs" / "survivors.json"
ITERATIONS, SEED = 600, 0


def survivors(iterations: int = ITERATIONS, rounds: int | None = None) -> dict[str, Any]:
    """Counts of surviving first-layer weights per pixel, (round, row, column), of the lottery's
    reference with another length of training, and how they were made.
    """
    reference = preset("lottery", "reference")
    recipe = replace(reference.task.recipe, iterations=iterations)
    task = replace(reference.task, recipe=recipe)
    rounds = reference.rounds if rounds is None else rounds
    shape, maps, densities = task.data().image_shape, [], []
    for masks, _, _ in plain.tickets(task, reference.pruning, rounds, seed=SEED):
        first = next(iter(masks.values()))  # (1, out, in)
        maps.append(first.sum((0, 1)).view(shape).sum(0).tolist())  # (H, W)
        densities.append(round(labkit.density(masks).item(), 6))
    return {
        "made_by": "python -m tools.survivors",
        "network": task.network,
        "dataset": task.dataset,
        "iterations": iterations,
        "seed": SEED,
        "torch": torch.__version__,
        "densities": densities,
        "maps": maps,
    }


def write(path: Path = FILE) -> Path:
    """Train, and write the file: a line for every round."""
    found = survivors()
    maps = ",\n".join(json.dumps(m, separators=(",", ":")) for m in found.pop("maps"))
    head = json.dumps(found, indent=1).removesuffix("\n}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{head},\n "maps": [\n{maps}\n]}}\n', encoding="utf-8")
    return path


if __name__ == "__main__":
    print(write())
