#!/usr/bin/env bash
# Makes a container engine, Docker Compose and debootstrap available on a Debian machine, for tests/compose.
#
# Does only what is missing, so it may run again at any time. Packages come from the Debian mirror that the machine is
# configured with. Where there is no service manager, the engine is started in the background and outlives the script.
#
# Exits with 0 when all of it works. Otherwise prints why, with the path of the log, and exits with 1.
set -euo pipefail

readonly LOG="${SHARDSCOPE_ENGINE_LOG:-${TMPDIR:-/tmp}/shardscope-engine.log}"
readonly START_SECONDS=30
# compose.yaml needs `depends_on.*.required`.
readonly COMPOSE_MINIMUM=2.20.2
# The first Debian release that has Compose 2.
readonly COMPOSE_SUITE=trixie
readonly DEBIAN_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

say() { printf 'install_engine: %s\n' "$*"; }
fail() {
    printf 'install_engine: %s\n' "$*" >&2
    printf 'install_engine: the log is %s\n' "$LOG" >&2
    exit 1
}

engine_answers() { timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

compose_works() {
    local version
    version="$(timeout 10 docker compose version --short 2>/dev/null)" || return 1
    version="${version#v}"
    [ "$(printf '%s\n%s\n' "$COMPOSE_MINIMUM" "${version%%[-+]*}" | sort -V | head -n 1)" = "$COMPOSE_MINIMUM" ]
}

# Runs a command that only its failure makes worth reading.
logged() { printf '+ %s\n' "$*" >>"$LOG" && "$@" >>"$LOG" 2>&1 </dev/null; }

updated=no
apt_install() {
    [ "$(id -u)" = 0 ] || fail "not root, so cannot install: $*"
    command -v apt-get >/dev/null || fail "no apt-get here, so cannot install: $*"
    if [ "$updated" = no ]; then
        logged apt-get update || fail "apt-get update failed"
        updated=yes
    fi
    say "installing $*"
    DEBIAN_FRONTEND=noninteractive logged apt-get install --yes --no-install-recommends "$@" \
        || fail "apt-get install $* failed"
}

# Prints the address of the configured mirror's main archive.
debian_mirror() {
    # shellcheck disable=SC1091,SC2016  # the file of the machine that this runs on; apt fills in the fields
    apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' \
        | awk -v codename="$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")" '$1 == codename && !seen++ {print $2}'
}

# Debian 12 has only Compose 1, which cannot read compose.yaml. The package of the next release is a single Go
# program that asks for no newer C library, so that one package is fetched from there, checked against Debian's
# keyring like any other, with package lists of its own: the machine's sources stay as they are.
install_compose() {
    local candidate work mirror
    apt_install debian-archive-keyring
    candidate="$(apt-cache policy docker-compose | awk '$1 == "Candidate:" {print $2}')"
    if [[ "$candidate" =~ ^([2-9]|[1-9][0-9])\. ]]; then
        apt_install docker-compose
        return
    fi
    mirror="$(debian_mirror)"
    [ -n "$mirror" ] || fail "no Debian mirror is configured, so Compose 2 cannot be fetched"
    say "fetching docker-compose of Debian $COMPOSE_SUITE"
    work="$(mktemp --directory)"
    chmod 755 "$work"
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    printf 'deb [signed-by=%s] %s %s main\n' "$DEBIAN_KEYRING" "$mirror" "$COMPOSE_SUITE" >"$work/sources.list"
    local -a apt=(
        apt-get
        -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=-
        -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o Dir::State::status=/dev/null
        -o APT::Sandbox::User=root
    )
    logged "${apt[@]}" update || fail "the package lists of $COMPOSE_SUITE could not be fetched"
    (cd "$work" && logged "${apt[@]}" download docker-compose) || fail "docker-compose could not be fetched"
    apt_install "$work"/docker-compose_*.deb
    rm -rf "$work"
}

# Waits for the engine; gives up early when the process that should become it has ended.
wait_for_engine() {
    local pid="$1" deadline=$((SECONDS + START_SECONDS))
    while [ "$SECONDS" -lt "$deadline" ]; do
        engine_answers && return 0
        [ -z "$pid" ] || kill -0 "$pid" 2>/dev/null || return 1
        sleep 0.5
    done
    return 1
}

start_engine() {
    [ "$(id -u)" = 0 ] || fail "no engine answers, and only root can start one"
    if [ -d /run/systemd/system ]; then
        logged systemctl start docker || true
        wait_for_engine "" || fail "docker.service does not answer"
        return
    fi
    # The defaults first. Then without packet filter rules, which some kernels do not have: containers still reach each
    # other, only not the outside. Last with the storage that needs nothing of the kernel, and is slow.
    local options pid
    for options in "" "--iptables=false --ip-masq=false" "--iptables=false --ip-masq=false --storage-driver=vfs"; do
        say "starting dockerd${options:+ }$options, log in $LOG"
        # shellcheck disable=SC2086  # several options
        setsid nohup dockerd $options >>"$LOG" 2>&1 </dev/null &
        pid=$!
        wait_for_engine "$pid" && return
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    tail -n 20 "$LOG" >&2
    fail "dockerd does not start"
}

main() {
    : >>"$LOG"
    local -a missing=()
    command -v debootstrap >/dev/null || missing+=(debootstrap)
    if ! engine_answers && ! command -v dockerd >/dev/null; then
        missing+=(docker.io iptables)
    fi
    if [ "${#missing[@]}" -gt 0 ]; then apt_install "${missing[@]}"; fi
    # Debian 13 and later have the client in a package of its own.
    command -v docker >/dev/null || apt_install docker-cli
    compose_works || install_compose
    compose_works || fail "docker compose $COMPOSE_MINIMUM or newer is needed: $(docker compose version 2>&1 | head -n 1)"
    engine_answers || start_engine
    say "engine $(docker version --format '{{.Server.Version}}'), compose $(docker compose version --short)"
}

main "$@"
