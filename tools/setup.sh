#!/usr/bin/env bash
# Installs what building, testing and the demo need, with apt-get (written for
# Debian 12). Quiet, and without network, when everything is there already.
#
#   tools/setup.sh           compilers, libraries, the Arm toolchain, QEMU
#   tools/setup.sh --peers   also what tools/bench compares and draws with:
#                            Debian's PyTorch, and JAX and NumPy of fixed
#                            versions in the virtual environment build/peers;
#                            google-benchmark; gnuplot
#
# The product itself needs no Python. Run as root, or as a user who may sudo.
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
  # Building: the second compiler and its sanitizers are for the tests.
  g++ clang libclang-rt-14-dev clang-format-14 cmake ninja-build
  # What the host library and the command line are made with.
  libeigen3-dev libfmt-dev nlohmann-json3-dev libtomlplusplus-dev libcli11-dev
  libarchive-dev libpng-dev zlib1g-dev
  # Tests.
  libgtest-dev libgmock-dev
  # Firmware: compiler, C library, emulator.
  gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm
  # Linux on AArch64: compiler and C library, emulator.
  g++-aarch64-linux-gnu qemu-user
)
peer_packages=(
  # OpenBLAS is what PyTorch multiplies matrices with where it is installed.
  python3-venv python3-torch libopenblas0-pthread
  # Single kernels and plots.
  libbenchmark-dev gnuplot-nox
)
peer_versions=(
  numpy==1.26.4 jax==0.4.30 jaxlib==0.4.30 scipy==1.13.1 ml-dtypes==0.4.0
  opt-einsum==3.3.0
)

die() { echo "setup.sh: $*" >&2; exit 1; }

peers=no
case "${1:-}" in
  "") ;;
  --peers) peers=yes packages+=("${peer_packages[@]}") ;;
  *) die "unknown argument $1 (there is --peers)" ;;
esac

if ! command -v apt-get >/dev/null; then
  echo "setup.sh: no apt-get here. Install yourself what these packages of" \
    "Debian 12 hold: ${packages[*]}" >&2
  exit 0
fi

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $state == installed ]] || missing+=("$package")
done

if [[ ${#missing[@]} -gt 0 ]]; then
  as_root=()
  if [[ $(id -u) -ne 0 ]]; then
    command -v sudo >/dev/null ||
      die "not root and no sudo; as root: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  echo "setup.sh: installing ${missing[*]}"
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  # Downloads are resumed; a mirror that hiccups is asked again.
  apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q
       -o Acquire::Retries=3 -o Dpkg::Use-Pty=0)
  if ! "${apt[@]}" update >"$log" 2>&1; then
    cat "$log" >&2
    die "apt-get update failed: is there a network?"
  fi
  if ! "${apt[@]}" install -y --no-install-recommends "${missing[@]}" \
    >"$log" 2>&1; then
    cat "$log" >&2
    die "apt-get install failed"
  fi
fi

if [[ $peers == yes ]]; then
  wanted=$(printf '%s\n' "${peer_versions[@]}")
  if [[ $(cat build/peers/fewstep-versions 2>/dev/null) != "$wanted" ]]; then
    echo "setup.sh: installing ${peer_versions[*]} in build/peers"
    mkdir -p build
    # Sees Debian's PyTorch beside what is installed here; another python3
    # in the PATH would not.
    /usr/bin/python3 -m venv --clear --system-site-packages build/peers
    build/peers/bin/pip install --quiet --disable-pip-version-check \
      "${peer_versions[@]}"
    printf '%s\n' "$wanted" >build/peers/fewstep-versions
  fi
  build/peers/bin/python -c 'import jax, numpy, torch
print(f"peers: jax {jax.__version__}, numpy {numpy.__version__}, "
      f"torch {torch.__version__}")'
fi
