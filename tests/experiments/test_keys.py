"""The addresses of results: what was trained is found again, whatever moves in the code."""

import hashlib
import json
from pathlib import Path

from labkit.experiments.experiment import all_trials
from labkit.experiments.presets import PRESETS

KNOWN = Path(__file__).with_name("keys.json")


def addresses() -> dict[str, str]:
    """Number and digest of the keys that each preset has in each size."""
    found = {}
    for name, sizes in PRESETS.items():
        for size, study in sizes.items():
            keys = sorted({trial.key for trial in all_trials(study)})
            digest = hashlib.sha256("\n".join(keys).encode()).hexdigest()
            found[f"{name} {size}"] = f"{len(keys)} {digest}"
    return found


def test_all_presets_ask_for_results_at_the_addresses_where_they_are():
    """A new preset is a new line, by `python -m tests.experiments.test_keys`; a changed one is a
    fault.
    """
    assert addresses() == json.loads(KNOWN.read_text("utf-8"))


if __name__ == "__main__":
    KNOWN.write_text(json.dumps(addresses(), indent=1) + "\n", encoding="utf-8")
