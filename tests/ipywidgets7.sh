#!/bin/sh
# The panel's tests with the ipywidgets of Colab, 7.7.1, laid over the lab's own environment; without
# the ten thousand random changes, which take these widgets many minutes.
set -eu
cd "$(dirname "$0")/.."
old=$(mktemp -d)
trap 'rm -rf "$old"' EXIT
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --target "$old" \
    ipywidgets==7.7.1 ipython_genutils==0.2.0
PYTHONPATH="$old" .venv/bin/python -m pytest -q -p no:cacheprovider \
    -W "ignore::DeprecationWarning" tests/test_panel.py tests/test_widgets.py \
    -k "not ten_thousand" "$@"
