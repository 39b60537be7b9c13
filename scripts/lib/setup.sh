# SPDX-License-Identifier: GPL-2.0-or-later
# Sets up .venv for the scripts beside this folder. Bash; sourced, never run.
#
#   source ".../scripts/lib/setup.sh"
#   set_up demo        # the extras of setup.py that the caller needs, with blanks between
#
# Afterwards $root is the repository, $venv its .venv, and $python the interpreter in it.
#
# What it is careful about:
# - Nothing happens when nothing changed. The file .venv/lonc-set-up says for which state of
#   setup.py, which Python and which extras .venv was made; it is written last, so that a
#   set-up that was interrupted counts as none.
# - A .venv that does not start, was made by another Python, or was moved, is made anew.
# - Extras add up: set_up demo after set_up dev leaves dev's tools where they are.
# - Two scripts at once take turns (a lock on the repository's folder, held by descriptor 9).

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
venv=$root/.venv
python=$venv/bin/python
stamp=$venv/lonc-set-up
readonly root venv python stamp

say() { printf 'set-up: %s\n' "$*" >&2; }

fail() {
    say "$*"
    exit 1
}

# What a Python is: its version and where it lives; nothing if it is too old or does not start.
describe_python() {
    "$1" - 2>/dev/null <<'PYTHON'
import sys
if sys.version_info < (3, 11):
    sys.exit(1)
print(sys.version.split()[0], sys.implementation.name, sys.base_prefix)
PYTHON
}

# Puts the first Python that will do into $base_python ($PYTHON wins), and what it is into $described.
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if base_python=$(command -v "$candidate") && described=$(describe_python "$base_python"); then
            return
        fi
        if [[ -n ${PYTHON-} ]]; then
            fail "PYTHON=$PYTHON is not a Python 3.11 or newer that starts"
        fi
    done
    fail "there is no Python 3.11 or newer here (Debian's package for it is python3)"
}

# Runs a command without its output. If it fails, prints the cause in one line and where all of the
# output is.
quietly() {
    local output code=0
    output=$("$@" 2>&1) || code=$?
    ((code)) || return 0
    local log=$root/var/set-up.log
    mkdir -p "$root/var"
    printf '%s\n' "$output" >"$log"
    fail "$(cause "$output") ($1 failed with exit code $code; its output is in $log)"
}

# Prints the cause of a failure: the network, or the last line of the output that names an error.
cause() {
    local network='Name or service not known|Temporary failure|Network is unreachable|No route to host'
    network+='|Connection refused|timed out|Could not resolve|CERTIFICATE_VERIFY_FAILED|No address associated'
    local found
    if found=$(grep -Eo "$network" <<<"$1"); then
        printf 'no access to the package index: %s' "${found%%$'\n'*}"
    elif found=$(grep -Ei 'error|no space left|permission denied' <<<"$1"); then
        printf '%s' "${found##*$'\n'}"
    else
        printf '%s' "${1##*$'\n'}"
    fi
}

# Debian keeps the part of Python that makes virtual environments in a package of its own.
need_venv_module() {
    if "$base_python" -c 'import ensurepip, venv' 2>/dev/null; then
        return
    fi
    local package
    package=$("$base_python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
        fail "this Python cannot make virtual environments yet: as root, apt-get install $package"
    fi
    say "installing Debian's $package"
    export DEBIAN_FRONTEND=noninteractive
    quietly apt-get -qq update
    quietly apt-get -qq install -y --no-install-recommends "$package"
}

# A digest of all that an installed .venv depends on, but for the extras.
fingerprint() {
    {
        printf '%s\n' "$root" "$described"
        cat "$root/setup.py" "$root/pyproject.toml" "$root/lonc_gevent/__init__.py"
    } | sha256sum | cut -d ' ' -f 1
}

# What the stamp says is installed: "fingerprint extra extra ..."; nothing if .venv does not start.
read_stamp() {
    if [[ -r $stamp && $(describe_python "$python") == "$described" ]]; then
        cat "$stamp"
    fi
}

set_up() {
    if command -v flock >/dev/null; then
        exec 9<"$root"
        flock 9
    fi
    local base_python described now made='' extras='' extra missing=''
    find_python
    now=$(fingerprint)
    read -r made extras < <(read_stamp) || true
    for extra in "$@"; do
        [[ " $extras " == *" $extra "* ]] || missing+=" $extra"
    done
    if [[ $made == "$now" && -z $missing ]]; then
        say ".venv is up to date (Python ${described%% *})"
    else
        make_venv "$now" "$extras$missing"
    fi
    if command -v flock >/dev/null; then
        exec 9<&-
    fi
}

# $1: the fingerprint to write down; $2: all extras to install, with blanks between.
make_venv() {
    local started=$SECONDS extras
    say "Python ${described%% *} ($base_python)"
    # The same Python, at the same place (pip runs, and from here): pip can bring the .venv up to
    # date. Otherwise it is made anew.
    if [[ $(describe_python "$python") != "$described" ]] ||
        [[ $("$venv/bin/pip" --version 2>/dev/null) != *" from $venv/"* ]]; then
        need_venv_module
        say "making .venv"
        quietly "$base_python" -m venv --clear "$venv"
    fi
    rm -f "$stamp"
    read -r extras <<<"$2"
    say "installing lonc-gevent with ${extras:-nothing else} (the first time takes a minute)"
    quietly "$python" -m pip install -q --disable-pip-version-check --no-input \
        --editable "$root[${extras// /,}]"
    printf '%s %s\n' "$1" "$extras" >"$stamp"
    say ".venv is ready ($((SECONDS - started)) s)"
}

# need_debian PACKAGE...: installs what is missing of Debian's packages. Where that cannot be done
# it only prints a note: the tests that need them are skipped.
need_debian() {
    local package missing=()
    for package in "$@"; do
        [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == *' ok installed' ]] || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
        say "not here, and their tests are skipped: ${missing[*]} (as root: apt-get install)"
        return 0
    fi
    say "installing Debian's ${missing[*]}"
    # Tests want the programs; no service of theirs is to start here.
    local policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT # whatever ends us: it would keep all services down
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
    fi
    DEBIAN_FRONTEND=noninteractive apt-get -qq update >/dev/null 2>&1 || true
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
        say "could not be installed, and their tests are skipped: ${missing[*]}"
    if [[ $(trap -p EXIT) == *policy-rc.d* ]]; then
        rm -f "$policy"
        trap - EXIT
    fi
}

# unpack_debian PACKAGE...: unpacks Debian's packages into $venv/debian, for a program that cannot be
# installed beside another (syslog-ng and rsyslog conflict). Needs no root.
unpack_debian() {
    local folder=$venv/debian work file
    [[ $(cat "$folder/unpacked" 2>/dev/null) != "$*" ]] || return 0
    command -v apt-get >/dev/null || return 0
    say "unpacking Debian's $* into $folder"
    work=$(mktemp -d)
    if (cd "$work" && apt-get -qq download "$@" >/dev/null 2>&1); then
        mkdir -p "$folder"
        for file in "$work"/*.deb; do dpkg-deb -x "$file" "$folder"; done
        printf '%s' "$*" >"$folder/unpacked"
    else
        say "could not be downloaded, and its tests are skipped: $1"
    fi
    rm -r "$work"
}
