#!/bin/sh
# Rewrites the lock files: names, versions and hashes, no addresses. Needs uv; run by `make lock`.
set -eu
cd "$(dirname "$0")/.."
common="--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet"
# shellcheck disable=SC2086
uv pip compile pyproject.toml requirements/build.in $common --extra frigate --extra grpc --extra video --output-file requirements/serve.lock "$@"
# shellcheck disable=SC2086
uv pip compile pyproject.toml requirements/build.in $common --extra test -c requirements/serve.lock --output-file requirements/test.lock "$@"
# alone, since its dependency opencv-python would overwrite the files of opencv-python-headless
# shellcheck disable=SC2086
uv pip compile requirements/trackers.in $common --no-deps --output-file requirements/trackers.lock "$@"
# programs in wheels; what their Python sides depend on is not needed
# shellcheck disable=SC2086
uv pip compile requirements/deploy.in $common --no-deps --output-file requirements/deploy.lock "$@"
