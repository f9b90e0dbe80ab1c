#!/bin/sh
# Makes the lock files beside this script anew: the newest releases that pyproject.toml allows, for every Python from
# 3.10 to 3.13 and every platform, with their hashes. `make locks` calls it; host/setup.sh installs from them.
set -eu
cd "$(dirname "$0")/../.."
uv=build/uv/bin/uv
if [ ! -x "$uv" ]; then
  "${PYTHON:-python3}" -m venv build/uv
  build/uv/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
fi

# What builds the package in place, without isolation, and what builds cobs, which has no wheel.
requires=build/uv/build-requires.in
"${PYTHON:-python3}" - >"$requires" <<'PY'
import re
from pathlib import Path

listed = re.search(r"^requires = \[(.*?)\]", Path("pyproject.toml").read_text(encoding="utf-8"), re.M | re.S)
print(*re.findall(r'"([^"]+)"', listed[1]), "cmake", "ninja", "setuptools", sep="\n")
PY

lock() {
  out="$1"
  shift
  "$uv" pip compile --quiet --upgrade --universal --python-version 3.10 --generate-hashes --no-header --no-annotate \
    --output-file "host/locks/$out.txt" "$@"
}
# One resolution for all: the smaller files are parts of the largest.
lock test --extra dev --extra firmware --extra oracle --extra tensorflow pyproject.toml "$requires"
of_test="--constraint host/locks/test.txt"
lock check $of_test --extra dev --extra firmware --extra oracle pyproject.toml "$requires"
lock demo $of_test --extra firmware pyproject.toml "$requires"
echo setuptools | lock build $of_test -
