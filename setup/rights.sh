#!/usr/bin/env bash
# Says at once when this shell may not do what the lab needs: mounts and host names in namespaces of its own.
set -euo pipefail

if [ "$(id -u)" -ne 0 ]; then
    echo "setup: the lab starts hypervisors in namespaces of their own and needs root; run: sudo make ${1:-demo}" >&2
    exit 1
fi
if ! unshare --mount --uts --propagation private sh -c 'mount --bind /tmp /tmp && hostname lab' 2>/dev/null; then
    echo "setup: this root may not mount (needs CAP_SYS_ADMIN); in a container, start it with: docker run --privileged ..." >&2
    exit 1
fi
