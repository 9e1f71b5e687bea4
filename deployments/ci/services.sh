#!/usr/bin/env bash
# Install the real servers that integration tests need, Spark's Java, Flink and Kafka; start PostgreSQL on 127.0.0.1, run
# the command given, end all.
set -euo pipefail

missing=()
command -v chromium >/dev/null || missing+=(chromium)
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing+=(postgresql)
command -v redis-server >/dev/null || missing+=(redis-server)
command -v java >/dev/null || missing+=(openjdk-17-jre-headless)
command -v mvn >/dev/null || missing+=(maven)
if [ "${#missing[@]}" -gt 0 ]; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "Needs the packages ${missing[*]}: install them, or run as root on Debian or Ubuntu." >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

bash "$(dirname "${BASH_SOURCE[0]}")/flink.sh"

folder=$(mktemp -d)
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
as_postgres() { if [ "$(id -u)" -eq 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
finish() {
    as_postgres "$bin/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$folder"
}
trap finish EXIT
[ "$(id -u)" -ne 0 ] || chown postgres "$folder"
as_postgres "$bin/initdb" -D "$folder/data" -U postgres -A trust >/dev/null
as_postgres "$bin/pg_ctl" -D "$folder/data" -o "-c listen_addresses=127.0.0.1 -p $port -k $folder" -l "$folder/log" -w start >/dev/null

export MLOPS_TEST_POSTGRES_URL="postgresql+psycopg2://postgres@127.0.0.1:$port/postgres"
"$@"
