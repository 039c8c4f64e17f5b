#!/usr/bin/env bash
# Installs the servers and tools that the tests need and PyPI does not have: Debian's PostgreSQL
# with pgTAP, plpgsql_check, pg_cron and pg_repack, pg_prove, PgBouncer, Redis, Chromium, MariaDB and
# what its Python driver is built with; and from npm Azurite, into the cache of whoever runs it. Needs apt, and root
# or sudo without a password; without them it says what to install and succeeds, and the tests skip
# what is missing.
#
# Nothing is left running: no cluster is created, no service is started. What exists is not touched.
set -euo pipefail

missing() { # the packages among "$@" that are not installed
    local package
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
    done
}

offered() { # whether apt can install it
    apt-cache policy "$1" 2>/dev/null | grep 'Candidate:' | grep -qv '(none)'
}

azurite="${XDG_CACHE_HOME:-$HOME/.cache}/sqlkit-tests/azurite"
if command -v npm >/dev/null && [ ! -x "$azurite/node_modules/.bin/azurite-blob" ]; then
    echo "installing azurite"
    mkdir -p "$azurite"
    npm install --prefix "$azurite" --no-audit --no-fund --loglevel=error azurite@3 >/dev/null ||
        echo "npm cannot install azurite: the tests of abfs:// will be skipped." >&2
fi

if ! command -v apt-get >/dev/null; then
    echo "No apt here. For all tests install: PostgreSQL 15 with pgTAP, plpgsql_check, pg_cron and pg_repack," \
        "pg_prove (TAP::Parser::SourceHandler::pgTAP), PgBouncer, Redis, Chromium, MariaDB and its client" \
        "library's headers." >&2
    exit 0
fi

# 15 is the oldest version supported and comes from Debian 12; 16 to 18 come from PyPI. Another
# release of Debian or Ubuntu brings another version: pgTAP's SQL from it serves all of them.
choose() { # sets todo
    local major extension
    for major in 15 16 17 18 14; do
        if offered "postgresql-$major-pgtap"; then
            break
        fi
    done
    local wanted=("postgresql-$major" "postgresql-$major-pgtap"
        libtap-parser-sourcehandler-pgtap-perl pgbouncer redis-server
        mariadb-server libmariadb-dev gcc pkg-config python3-dev)
    for extension in plpgsql-check mysql-fdw cron repack; do
        if offered "postgresql-$major-$extension"; then
            wanted+=("postgresql-$major-$extension")
        fi
    done
    # Ubuntu's package of that name only brings the snap.
    if offered chromium; then
        wanted+=(chromium)
    fi
    mapfile -t todo < <(missing "${wanted[@]}")
}

choose
[ "${#todo[@]}" -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        echo "Some tests will be skipped. To run them all: sudo apt-get install ${todo[*]}" >&2
        exit 0
    fi
    as_root=(sudo)
fi

"${as_root[@]}" apt-get update -qq
choose # again: the package lists may have been empty before

# Debian creates and starts a cluster with the first server package, and starts PgBouncer. Both
# are kept from happening for the time of this installation only.
no_cluster=/etc/postgresql-common/createcluster.d/sqlkit-tests.conf
no_start=/usr/sbin/policy-rc.d
made=()
cleanup() {
    if [ "${#made[@]}" -gt 0 ]; then
        "${as_root[@]}" rm -f "${made[@]}"
    fi
}
trap cleanup EXIT
make_file() { # path, mode, content
    if [ ! -e "$1" ]; then
        "${as_root[@]}" mkdir -p "$(dirname "$1")"
        printf '%s\n' "$3" | "${as_root[@]}" tee "$1" >/dev/null
        "${as_root[@]}" chmod "$2" "$1"
        made+=("$1")
    fi
}
make_file "$no_cluster" 644 "create_main_cluster = false"
make_file "$no_start" 755 $'#!/bin/sh\nexit 101'

echo "installing ${todo[*]}"
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${todo[@]}" >/dev/null
