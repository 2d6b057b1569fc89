#!/bin/sh
# Builds the image of SkyAuth with the first of docker, podman and buildah that is installed. `make image` runs it. Environment:
#   IMAGE           the name of the image (skyauth)
#   BASE            the image with Python to build on; the Containerfile has the default
#   PIP_INDEX_URL   your own package index
#   BUILDER         docker, podman or buildah
set -eu
cd "$(dirname "$0")/../.."

builder=${BUILDER:-}
for name in docker podman buildah; do
	if [ -z "$builder" ] && command -v "$name" >/dev/null; then builder=$name; fi
done
if [ -z "$builder" ]; then
	echo "make image needs docker, podman or buildah. Install one of them." >&2
	exit 1
fi

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' skyauth/__init__.py)
revision=$(git rev-parse HEAD 2>/dev/null || true)
set -- build --file deploy/container/Containerfile --tag "${IMAGE:-skyauth}" \
	--build-arg VERSION="${version:-unknown}" --build-arg REVISION="${revision:-unknown}"
# Only this format has HEALTHCHECK; it is docker's own.
if [ "${builder##*/}" != docker ]; then set -- "$@" --format docker; fi
if [ -n "${BASE:-}" ]; then set -- "$@" --build-arg BASE="$BASE"; fi
if [ -n "${PIP_INDEX_URL:-}" ]; then set -- "$@" --build-arg PIP_INDEX_URL="$PIP_INDEX_URL"; fi
exec "$builder" "$@" .
