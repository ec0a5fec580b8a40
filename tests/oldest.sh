#!/bin/sh
# All tests that need neither a browser nor a lesson, with the oldest versions that pyproject.toml
# allows: ipywidgets 7.7, as on Colab, torch 2.6 and numpy 1.26 among them. Without the ten thousand
# random changes, which take those widgets many minutes, the reference, whose tools must be of one time,
# and the drawn pictures, whose bytes are those of one Pillow. Downloads 3 GB, which uv keeps.
set -eu
cd "$(dirname "$0")/.."
venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
uv=.venv/bin/uv
"$uv" venv --quiet --clear --seed --python .venv/bin/python "$venv"
"$uv" pip install --quiet --python "$venv/bin/python" --resolution lowest-direct -e ".[test]"
"$venv/bin/python" -m pytest -q -n 2 -p no:cacheprovider -W "ignore::DeprecationWarning" \
    -W "ignore::FutureWarning" tests \
    --ignore-glob="*/test_browser*" --ignore=tests/test_notebooks.py --ignore=tests/tools/test_course.py \
    --ignore=tests/tools/test_packaging.py --ignore=tests/tools/test_reference.py \
    --ignore=tests/tools/test_site.py --ignore=tests/tools/test_ideas.py -k "not ten_thousand" "$@"
