#!/usr/bin/env bash
# Installs the Debian packages that the lab needs and this machine lacks. Those that are there are not touched,
# no service is started, no database cluster is made, and every file changed for the call is as before after it.
# With the argument "tests": also those that only the tests need.
set -euo pipefail
# shellcheck source=setup/python.sh
. "$(dirname "$0")/python.sh"

PATH=$PATH:/usr/sbin:/sbin
policy=/usr/sbin/policy-rc.d
clusters=/etc/postgresql-common/createcluster.conf
extra_clusters=/etc/postgresql-common/createcluster.d
ours="hostler setup: in force during its call of apt-get only"
aside=before-hostler

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
command_there() { command -v "$1" >/dev/null; }
file_there() { compgen -G "$1" >/dev/null; }

# What the lab needs, and how to see that it is there.
missing_packages() {
    command_there libvirtd || echo libvirt-daemon
    file_there '/usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so' || echo libvirt-daemon-driver-qemu
    command_there qemu-system-x86_64 || echo qemu-system-x86
    command_there qemu-img || echo qemu-utils
    command_there mkfs.ext4 || echo e2fsprogs
    command_there mkfs.vfat || echo dosfstools
    command_there mkswap || echo util-linux
    file_there '/usr/include/libvirt/libvirt.h' || echo libvirt-dev
    command_there pkg-config || echo pkg-config
    command_there gcc || echo gcc
    installed busybox-static || echo busybox-static
    command_there redis-server || command_there redis-check-rdb || echo redis-tools
    command_there openssl || echo openssl
    command_there ip || echo iproute2
    command_there initdb || file_there '/usr/lib/postgresql/*/bin/initdb' || echo postgresql-server
    # the broker of large installations, with all of Erlang
    [ "$1" != tests ] || file_there '/usr/lib/rabbitmq/bin/rabbitmq-server' || echo rabbitmq-server
    local python
    if python=$(find_python); then
        "$python" - <<'END'
import importlib.util, pathlib, sysconfig
if not importlib.util.find_spec("ensurepip"):
    print("python3-venv")
if not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists():
    print("python3-dev")
END
    else
        printf '%s\n' python3 python3-venv python3-dev
    fi
}

# set_aside FILE: FILE makes room for ours, or has none to make.
set_aside() {
    if [ -e "$1" ] || [ -L "$1" ]; then
        mv -T "$1" "$1.$aside"
    fi
}

# put_back FILE: FILE is what it was, also after a call that was killed.
put_back() {
    if [ -e "$1.$aside" ] || [ -L "$1.$aside" ]; then
        mv -fT "$1.$aside" "$1"
    elif [ -f "$1" ] && grep -q "$ours" "$1"; then
        rm -f "$1"
    fi
}

put_everything_back() {
    put_back "$policy"
    put_back "$clusters"
    put_back "$extra_clusters/hostler.conf"
    [ -z "${made_folder:-}" ] || rmdir -p --ignore-fail-on-non-empty "$extra_clusters" 2>/dev/null || true
    rm -rf "${log:-}"
}

hold_services_and_clusters() {
    set_aside "$policy"
    printf '#!/bin/sh\n# %s\nexit 101\n' "$ours" >"$policy"
    chmod 755 "$policy"
    local answer=$extra_clusters/hostler.conf # read by the file that a fresh postgresql-common brings
    if [ -e "$clusters" ]; then
        set_aside "$clusters"
        answer=$clusters
    fi
    if [ ! -d "$extra_clusters" ]; then
        made_folder=yes
        mkdir -p "$extra_clusters"
    fi
    printf '# %s\ncreate_main_cluster = false\n' "$ours" >"$answer"
}

mapfile -t missing < <(missing_packages "${1:-}")
put_back_needed() { file_there "$policy.$aside" || grep -qs "$ours" "$policy"; }
if [ ${#missing[@]} -eq 0 ] && ! put_back_needed; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "setup: packages are missing (${missing[*]}); run: sudo make setup" >&2
    exit 1
fi
if ! command_there apt-get; then
    echo "setup: this machine has no apt-get; install what ${missing[*]} are called here, then run it again" >&2
    exit 1
fi

trap put_everything_back EXIT
trap 'exit 130' INT TERM HUP
put_everything_back
[ ${#missing[@]} -gt 0 ] || exit 0
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
apt=(apt-get -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0)

# quietly STEP COMMAND...: its output is shown only when it fails.
quietly() {
    local step=$1
    shift
    if ! "$@" >"$log" 2>&1 </dev/null; then
        tail -n 15 "$log" >&2
        echo "setup: $step failed; the lines above are what apt-get said" >&2
        exit 1
    fi
}

quietly "reading the package lists" "${apt[@]}" update
for index in "${!missing[@]}"; do
    if [ "${missing[index]}" = postgresql-server ]; then
        # The metapackage names this release's server; itself it would bring nothing more.
        server=$(apt-cache depends postgresql | sed -n 's/^ *Depends: \(postgresql-[0-9]*\)$/\1/p' | head -n 1 || true)
        missing[index]=${server:-postgresql}
    fi
done
install=("${apt[@]}" install --yes --no-install-recommends --no-upgrade --no-remove "${missing[@]}")
quietly "choosing packages" "${install[@]}" --simulate
echo "setup: installing, starting no service: $(sed -n 's/^Inst \([^ ]*\) (.*/\1/p' "$log" | sort | tr '\n' ' ')"
upgraded=$(sed -n 's/^Inst \([^ ]*\) \[.*/\1/p' "$log" | sort | tr '\n' ' ')
[ -z "$upgraded" ] || echo "setup: with newer versions, which those depend on, of: $upgraded"
hold_services_and_clusters
quietly "installing packages" "${install[@]}"
