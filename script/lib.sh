# Shared by the programs in script/. Plain sh: on a bare Debian there is no make, sudo, curl, python3 or ip.
# Sourced with the tree as working directory; $0 names the program in messages.

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export PATH
PYTHON=.venv/bin/python
STATE=${VAULT_HA_VAR:-var}
INSTALL_LOG=$STATE/log/install.log

say() { printf '%s\n' "$*"; }

# One clear line, nothing left behind.
die() {
    printf '%s: %s\n' "script/${0##*/}" "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

make_state() {
    mkdir -p "$STATE/log" 2>/dev/null || die "cannot write to $STATE: check its owner and the free space, or set VAULT_HA_VAR to another directory."
    { : >>"$INSTALL_LOG"; } 2>/dev/null || die "cannot write to $INSTALL_LOG: was it made by another user? Run as that user, or set VAULT_HA_VAR."
    chmod 700 "$STATE"
}

# The last thing a failed installation said, as part of a sentence.
why_failed() {
    if grep -q "No space left on device" "$INSTALL_LOG"; then
        say "the disk is full"
    else
        grep -v '^[[:space:]]*$' "$INSTALL_LOG" | tail -n 1
    fi
}

# The interpreter for the virtual environment: Debian's own first, because its headers and venv module can be installed.
find_python() {
    for candidate in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            printf '%s' "$candidate"
            return 0
        fi
    done
    return 1
}

has_headers() {
    interpreter=$(find_python) || return 1
    "$interpreter" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' 2>/dev/null
}

# has_stamp FILE: is the virtual environment what this requirements file asks for?
has_stamp() {
    "$PYTHON" -c 'import pip' >/dev/null 2>&1 || return 1
    [ "$(cat ".venv/installed-${1%.txt}" 2>/dev/null)" = "$(stamp)" ]
}

stamp() { cat requirements.txt requirements-dev.txt | sha256sum; }

# missing_packages REQUIREMENTS [test]: Debian packages that are not there yet, each found by what it brings.
missing_packages() {
    find_python >/dev/null || say python3 python3-venv
    if ! has_stamp "$1"; then # mysqlclient is compiled
        have gcc || say gcc libc6-dev
        has_headers || say python3-dev
        have pkg-config || say pkg-config
        pkg-config --exists libmariadb 2>/dev/null || say libmariadb-dev
    fi
    # The core packages hold the programs without a service: nothing foreign starts now or at the next boot.
    { have mariadbd && have mariadb-install-db; } || say mariadb-server-core
    have mariadb || say mariadb-client-core
    { have mariadb-backup && have mbstream; } || say mariadb-backup # full copies and backups
    have mariadb-binlog || say mariadb-client                       # reads what a diverged node has beyond the others
    # redis-tools holds the very binary of redis-server (they are one program); script/demo runs it under that name.
    { have redis-server || have redis-check-rdb; } || say redis-tools
    have nft || say nftables
    [ -s /etc/ssl/certs/ca-certificates.crt ] || say ca-certificates
    if [ "${2:-}" = test ]; then
        have chromium || have chromium-browser || say chromium
        [ -e /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf ] || say fonts-dejavu-core
        have msgfmt || say gettext # a test compares the translations with what the code says
        have ip || say iproute2 # tests of addresses lay them out in a network namespace
    fi
}

install_packages() {
    missing=$(missing_packages "$@" | tr '\n' ' ')
    missing=${missing% }
    [ -n "$missing" ] || return 0
    have apt-get || die "this system lacks what these Debian packages bring: $missing. Install them with its own package manager."
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif have sudo && { sudo -n true 2>/dev/null || { [ -t 0 ] && sudo -v; }; }; then
        as_root=sudo
    else
        die "these packages are missing: $missing. Install them as root (apt-get install $missing), then start again."
    fi
    say "Installing $missing …"
    # shellcheck disable=SC2086  # words are meant to split
    {
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 update &&
            $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 install -y --no-install-recommends $missing
    } </dev/null >>"$INSTALL_LOG" 2>&1 || die "could not install $missing: $(why_failed) (all of it: $INSTALL_LOG)"
    missing=$(missing_packages "$@" | tr '\n' ' ')
    [ -z "$missing" ] || die "these packages were installed, but what they bring is still missing: $missing. See $INSTALL_LOG."
}

# A .venv whose interpreter does not start (made elsewhere, or by a Python that is gone) is made again.
make_environment() {
    has_stamp "$1" && return 0
    mkdir -p .venv 2>/dev/null && [ -w .venv ] || die "cannot write to $(pwd)/.venv: run as the user who owns this tree."
    exec 8<requirements.txt
    flock 8 # two programs started together install once
    if ! has_stamp "$1"; then
        say "Installing the Python packages of $1 …"
        {
            "$PYTHON" -c 'import pip' || "$(find_python)" -m venv --clear .venv
        } >>"$INSTALL_LOG" 2>&1 || die "could not make the virtual environment .venv: $(why_failed) (all of it: $INSTALL_LOG)"
        "$PYTHON" -m pip install --disable-pip-version-check --no-input -r "$1" </dev/null >>"$INSTALL_LOG" 2>&1 ||
            die "could not install the Python packages of $1: $(why_failed) (all of it: $INSTALL_LOG)"
        stamp >.venv/installed-requirements
        [ "$1" != requirements-dev.txt ] || stamp >.venv/installed-requirements-dev
    fi
    exec 8<&-
}

# prepare REQUIREMENTS [test]: everything that must be on this machine before Python can take over.
prepare() {
    make_state
    : >"$INSTALL_LOG"
    install_packages "$@"
    make_environment "$1"
}
