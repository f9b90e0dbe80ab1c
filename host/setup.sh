#!/bin/sh
# Sets up what `make demo` and `make test` need: Debian packages (as root or with sudo; otherwise it
# says what to install) and the virtual environment .venv with the package and its extras.
#   host/setup.sh demo|test
set -eu
cd "$(dirname "$0")/.."
want="${1:?usage: host/setup.sh demo|test}"

packages="g++ make python3-dev python3-venv gcc-arm-none-eabi libnewlib-arm-none-eabi
  libstdc++-arm-none-eabi-newlib qemu-system-arm"
extras="[firmware]"
if [ "$want" = test ]; then
  packages="$packages doctest-dev clang clang-format clang-tidy libclang-rt-dev llvm"
  extras="[dev,firmware,oracle,tensorflow]"
fi

missing=""
if command -v dpkg-query >/dev/null 2>&1; then
  for p in $packages; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing="$missing $p"
  done
fi
if [ -n "$missing" ]; then
  if [ "$(id -u)" = 0 ]; then sudo=""; elif sudo -n true 2>/dev/null; then sudo=sudo; else sudo=none; fi
  if [ "$sudo" = none ]; then
    echo "Not installed:$missing" >&2
    echo "Without them some targets are skipped. To install: sudo apt-get install$missing" >&2
  else
    $sudo apt-get update -qq
    # A package that this release does not have must not keep the others from being installed.
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
      for p in $missing; do
        DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "$p" >/dev/null ||
          echo "Could not install $p; what needs it is skipped." >&2
      done
  fi
fi

python="${PYTHON:-python3}"
"$python" - <<'PY' || exit 1
import sys
if not (3, 10) <= sys.version_info[:2] <= (3, 13):
    sys.exit(f"Kilotune needs Python 3.10 to 3.13; this is {sys.version.split()[0]}. Try: make PYTHON=python3.11")
PY
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".$extras"
