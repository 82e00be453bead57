#!/usr/bin/env bash
# Makes the program `etcd` available on a Debian machine, for tests that start it themselves.
#
# Does only what is missing, so it may run again at any time. The package comes from the Debian mirror that the machine
# is configured with. It is not run as a service: neither now nor when the machine starts.
#
# Exits with 0 when the program is there. Otherwise prints why, with the path of the log, and exits with 1.
set -euo pipefail

readonly LOG="${SHARDSCOPE_ETCD_LOG:-${TMPDIR:-/tmp}/shardscope-etcd.log}"
# The first whose keys' API is final.
readonly MINIMUM=3.4.0
readonly POLICY=/usr/sbin/policy-rc.d

say() { printf 'install_etcd: %s\n' "$*"; }
fail() {
    printf 'install_etcd: %s\n' "$*" >&2
    printf 'install_etcd: the log is %s\n' "$LOG" >&2
    exit 1
}

# Runs a command that only its failure makes worth reading.
logged() { printf '+ %s\n' "$*" >>"$LOG" && "$@" >>"$LOG" 2>&1 </dev/null; }

version() { timeout 10 etcd --version 2>/dev/null | awk '/^etcd Version:/ {print $3}'; }

is_there() {
    local found
    found="$(version)" || return 1
    [ -n "$found" ] && [ "$(printf '%s\n%s\n' "$MINIMUM" "$found" | sort -V | head -n 1)" = "$MINIMUM" ]
}

# What the package's scripts ask before they start a service; the answer is no.
forbid_services() {
    [ ! -e "$POLICY" ] || return 0
    trap 'rm -f "$POLICY"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
}

main() {
    : >>"$LOG"
    if ! is_there; then
        [ "$(id -u)" = 0 ] || fail "not root, so cannot install etcd-server"
        command -v apt-get >/dev/null || fail "no apt-get here, so cannot install etcd-server"
        logged apt-get update || fail "apt-get update failed"
        say "installing etcd-server"
        forbid_services
        DEBIAN_FRONTEND=noninteractive logged apt-get install --yes --no-install-recommends etcd-server \
            || fail "apt-get install etcd-server failed"
        if command -v systemctl >/dev/null; then logged systemctl disable etcd.service || true; fi
        is_there || fail "etcd $MINIMUM or newer is needed, but this is: $(version)"
    fi
    say "etcd $(version)"
}

main "$@"
