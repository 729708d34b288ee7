#!/usr/bin/env bash
# Starts and stops the stack of deploy/compose.yaml; without a container engine, the server alone as a process on the same port.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${TRAINYARD_DATA_DIR:-.trainyard}

composes() { docker compose version >/dev/null 2>&1 && docker info >/dev/null 2>&1; }

secrets() {
  [ -e deploy/.env ] && return
  (umask 077 && printf 'POSTGRES_PASSWORD=%s\nGRAFANA_PASSWORD=%s\n' \
    "$(head -c 24 /dev/urandom | base64 | tr '+/' '-_')" "$(head -c 12 /dev/urandom | base64 | tr '+/' '-_')" >deploy/.env)
}

# The pid of the server that runs on the data directory; a number that another program has by now does not count.
server_pid() {
  local pid
  pid=$(sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' "$data/run.json" 2>/dev/null | head -1 || true)
  if [ -n "$pid" ] && tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q 'trainyard up'; then echo "$pid"; fi
}

is_ready() {
  local url
  url=$(sed -n 's/^  url  *//p' "$data/up.log")
  [ -n "$url" ] && .venv/bin/python -c "import sys, urllib.request as r; r.urlopen(sys.argv[1] + '/readyz', timeout=5)" "$url" 2>/dev/null
}

up() {
  if composes; then
    secrets
    docker compose --env-file deploy/.env -f deploy/compose.yaml up --detach --build --wait
    docker compose --env-file deploy/.env -f deploy/compose.yaml logs server | grep -m1 'admin key' || true
    return
  fi
  local pid
  pid=$(server_pid)
  if [ -n "$pid" ]; then
    echo "a server runs on $data already, with pid $pid; its first words are in $data/up.log; stop it with: make down"
    return
  fi
  echo "no container engine answers here (docker compose); starting the server alone as a process, with SQLite and without Redis, Prometheus and Grafana"
  mkdir -p "$data" && chmod 700 "$data"
  TRAINYARD_SERVER__PORT=${TRAINYARD_SERVER__PORT:-8000} nohup .venv/bin/trainyard up >"$data/up.log" 2>&1 &
  pid=$!
  for _ in $(seq 120); do
    sleep 1
    if ! kill -0 "$pid" 2>/dev/null; then cat "$data/up.log" >&2; exit 1; fi
    if is_ready; then cat "$data/up.log"; echo "stop it with: make down"; return; fi
  done
  echo "the server is not ready after 120 s; see $data/up.log" >&2
  exit 1
}

down() {
  if composes; then
    secrets
    docker compose --env-file deploy/.env -f deploy/compose.yaml down
    return
  fi
  local pid
  pid=$(server_pid)
  if [ -z "$pid" ]; then echo "no server runs on $data"; return; fi
  kill -TERM "$pid"
  while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
  echo "stopped"
}

case "${1:-}" in
  up | down) "$1" ;;
  *) echo "usage: scripts/stack.sh up|down" >&2; exit 2 ;;
esac
