#!/bin/sh
# Sets up what `make demo`, `make check` and `make test` need: Debian packages (as root or with sudo; otherwise, and with
# KILOTUNE_NO_INSTALL=1, it says what to install) and the virtual environment .venv with the package and its extras.
#   host/setup.sh demo|check|test
set -eu
cd "$(dirname "$0")/.."
want="${1:-}"

# ccache: boards share most of their objects, and so do builds of today and yesterday.
packages="g++ make ccache python3-dev python3-venv gcc-arm-none-eabi libnewlib-arm-none-eabi
  libstdc++-arm-none-eabi-newlib qemu-system-arm"
case "$want" in
  demo) ;;
  check) packages="$packages clang-format" ;;
  test) packages="$packages clang-format doctest-dev clang clang-tidy libclang-rt-dev llvm" ;;
  *)
    echo "usage: host/setup.sh demo|check|test" >&2
    exit 2
    ;;
esac

missing=""
if command -v dpkg-query >/dev/null 2>&1; then
  for p in $packages; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing="$missing $p"
  done
else
  echo "This is no Debian or Ubuntu: what builds need must be there already (\`kilotune doctor\` names it)." >&2
fi
if [ -n "$missing" ]; then
  if [ "$(id -u)" = 0 ]; then sudo=""; elif sudo -n true 2>/dev/null; then sudo=sudo; else sudo=none; fi
  if [ -n "${KILOTUNE_NO_INSTALL:-}" ] || [ "$sudo" = none ]; then
    echo "Not installed:$missing" >&2
    echo "Without them some targets are skipped. To install: sudo apt-get install$missing" >&2
  else
    echo "Installing Debian packages (KILOTUNE_NO_INSTALL=1 forbids it):$missing" >&2
    $sudo apt-get update -qq || echo "apt-get update failed: is there a connection, and are the sources right?" >&2
    # A package that this release does not have must not keep the others from being installed.
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
      for p in $missing; do
        DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "$p" >/dev/null ||
          echo "Could not install $p; what needs it is skipped." >&2
      done
  fi
fi

python="${PYTHON:-python3}"
if ! command -v "$python" >/dev/null 2>&1; then
  echo "There is no $python. Install Python 3.10 to 3.13 (Debian: apt-get install python3 python3-venv)," >&2
  echo "or name one: make PYTHON=python3.11 $want" >&2
  exit 1
fi
"$python" - <<'PY' || exit 1
import sys
if not (3, 10) <= sys.version_info[:2] <= (3, 13):
    sys.exit(f"Kilotune needs Python 3.10 to 3.13; this is {sys.version.split()[0]}. Try: make PYTHON=python3.11")
PY
if ! .venv/bin/python -c "" >/dev/null 2>&1; then
  if [ -e .venv ]; then
    echo ".venv does not work (has the folder moved, or its Python gone?): it is made again." >&2
  fi
  if ! "$python" -m venv --clear .venv; then
    rm -rf .venv
    echo "No virtual environment could be made (Debian: apt-get install python3-venv)." >&2
    exit 1
  fi
fi
# Exactly what host/locks names, by its hashes (`make locks` makes them anew). What builds the package is kept in .venv
# too: the next build then compiles only what has changed. First what builds a package that comes as source.
pip() { .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation "$@"; }
if ! { pip --require-hashes --requirement host/locks/build.txt &&
  pip --require-hashes --requirement "host/locks/$want.txt" && pip --no-deps --editable .; }; then
  echo "The package could not be installed into .venv; the lines above say why. Usual reasons: no connection to a" >&2
  echo "package index (behind a proxy: set https_proxy), no C++ compiler (Debian: apt-get install g++ python3-dev)," >&2
  echo "or no space on the disk (make test needs about 3 GB). Then run the same command again." >&2
  exit 1
fi
