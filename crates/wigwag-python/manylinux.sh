#!/usr/bin/env bash
# Builds a wheel for other systems (manylinux_2_28: glibc 2.28 or newer) and checks its tag, in the container of that
# platform. Needs docker, or podman as DOCKER=podman. The wheel is put into dist/ at the root of the repository.
set -eu
cd "$(dirname "$0")/../.."

docker="${DOCKER:-docker}"
machine="$(uname -m)"
image="${IMAGE:-quay.io/pypa/manylinux_2_28_$machine}"
command -v "$docker" >/dev/null 2>&1 || { echo "there is no $docker: install it, or set DOCKER" >&2; exit 2; }

mkdir -p dist
"$docker" run --rm --volume "$PWD:/source:ro" --volume "$PWD/dist:/dist" "$image" bash -euc '
  curl --proto "=https" --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal
  . "$HOME/.cargo/env"
  cp -r /source /tmp/source && rm -rf /tmp/source/target && cd /tmp/source
  /opt/python/cp311-cp311/bin/python -m venv /tmp/environment
  /tmp/environment/bin/pip install --quiet "maturin>=1.9,<2" auditwheel
  /tmp/environment/bin/maturin build --release --locked --compatibility manylinux_2_28 \
    --manifest-path crates/wigwag-python/Cargo.toml --out /dist
  /tmp/environment/bin/auditwheel show /dist/wigwag-*.whl
'
