#!/usr/bin/env bash
# A Kafka broker of one node (KRaft) on 127.0.0.1, for tests and trials.
#   broker.sh fetch               copy the jars into jars/ beside this file, once per version (Maven, Java 17)
#   broker.sh run PORT FOLDER     run a broker in the foreground; its data lie in FOLDER and survive a restart
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
jars=$here/jars

fetch() {
    if [ -f "$jars/.pom" ] && cmp -s "$here/pom.xml" "$jars/.pom"; then return; fi
    rm -rf "$jars"
    mvn --batch-mode --quiet --file "$here/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$jars" >&2
    cp "$here/pom.xml" "$jars/.pom"
}

run() {
    local port=$1 folder=$2 controller
    mkdir -p "$folder"
    if [ ! -f "$folder/server.properties" ]; then
        controller=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
        cat >"$folder/server.properties" <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
log.dirs=$folder/log
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
EOF
        java -Xmx256m -cp "$jars/*" kafka.tools.StorageTool format --cluster-id bWxvcHMta2Fma2EtdGVzdA \
            --config "$folder/server.properties" >"$folder/format.txt" 2>&1 || { cat "$folder/format.txt" >&2; exit 1; }
    fi
    exec java -Xmx512m -cp "$jars/*" kafka.Kafka "$folder/server.properties"
}

case "${1:-}" in
    fetch) fetch ;;
    run) run "$2" "$3" ;;
    *) sed -n '2,4p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
