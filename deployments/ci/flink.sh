#!/usr/bin/env bash
# Make what the tests of Flink need, where it is missing: Flink in a Python environment of its own (its pins exclude
# ours), and the jars of a Kafka broker and of Flink's connector to it. Needs Java 17 and Maven. Run again, it does nothing.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
venv=${MLOPS_FLINK_VENV:-$root/.venv-flink}
pins=$root/constraints-flink.txt

if ! cmp -s "$pins" "$venv/.installed"; then
    python=
    for candidate in ${FLINK_PYTHON:-} "$root/.venv/bin/python" python3.11 python3.12 python3; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
    [ -n "$python" ] || { echo "Flink needs Python 3.11 or 3.12: install it, or set FLINK_PYTHON." >&2; exit 1; }
    echo "Installing Flink into $venv …" >&2
    "$python" -m venv --clear "$venv"
    if [ -x "$root/.venv/bin/uv" ]; then
        "$root/.venv/bin/uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r "$pins"
    else
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$pins"
    fi
    cp "$pins" "$venv/.installed"
fi
bash "$root/deployments/ci/kafka/broker.sh" fetch
