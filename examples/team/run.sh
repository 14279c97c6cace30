#!/usr/bin/env bash
# A team's gateway on one machine: PostgreSQL, two replicas, nginx before them. Ctrl-C ends all of it.
#
#   examples/team/run.sh [FOLDER]       where data and logs go; default: ~/.local/share/ccr-asgi-team
#
# It needs ccr-asgi[postgresql] on the PATH, and Debian's packages postgresql and nginx. PORT (3456) is nginx's, the next
# two are the replicas'; CONFIG names another configuration than the one beside this script.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-${XDG_DATA_HOME:-$HOME/.local/share}/ccr-asgi-team}
port=${PORT:-3456}
config=${CONFIG:-$here/config.json}
postgresql=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)
nginx=$(PATH=$PATH:/usr/sbin command -v nginx)

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
pids=()

as_postgres=() # the server refuses to run as root
((EUID)) || as_postgres=(setpriv --reuid=postgres --regid=postgres --clear-groups)

start() { # NAME COMMAND…: in the background, with a log; Ctrl-C is for this script alone, which ends them in order
  local name=$1
  shift
  setsid "$@" >"$folder/$name.log" 2>&1 &
  pids+=($!)
}

until_true() { # COMMAND…: for half a minute at most
  for _ in {1..300}; do
    "$@" >/dev/null 2>&1 && return
    sleep 0.1
  done
  echo "run.sh: '$*' did not succeed; see $folder/*.log" >&2
  exit 1
}

finish() { # nginx first, then the replicas, which write their last rows, then the database
  trap - EXIT INT TERM
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    kill -TERM "${pids[i]}" 2>/dev/null || true
    wait "${pids[i]}" 2>/dev/null || true
  done
}
trap finish EXIT
trap 'exit 0' INT TERM

if [[ ! -d $folder/database/base ]]; then
  mkdir -p "$folder/database"
  ((EUID)) || chown postgres "$folder" "$folder/database"
  "${as_postgres[@]}" "$postgresql/initdb" -D "$folder/database" -U ccr -A trust -E UTF8 >"$folder/initdb.log"
fi
rm -f "$folder"/.s.PGSQL.*
start database "${as_postgres[@]}" "$postgresql/postgres" -D "$folder/database" -k "$folder" -c listen_addresses=
until_true "$postgresql/pg_isready" -h "$folder" -U ccr
"$postgresql/psql" -h "$folder" -U ccr -d usage -c '' 2>/dev/null || "$postgresql/createdb" -h "$folder" -U ccr usage

export CCR_ASGI_CONFIG=$config CCR_ASGI_DATABASE_URL="postgresql+asyncpg://ccr@/usage?host=$folder"
for number in 1 2; do
  start "replica-$number" ccr-asgi serve --port $((port + number)) --log-format json
  until_true curl -fs "http://127.0.0.1:$((port + number))/healthz"
done

sed -e "s/listen 80;/listen $port;/" -e "s/replica-1:3456/127.0.0.1:$((port + 1))/" \
  -e "s/replica-2:3456/127.0.0.1:$((port + 2))/" "$here/nginx.conf" >"$folder/site.conf"
cat >"$folder/nginx.conf" <<CONF
worker_processes 1; daemon off; pid $folder/nginx.pid; error_log stderr;
events { worker_connections 4096; }
http {
  access_log off;
  $(for kind in client_body proxy fastcgi uwsgi scgi; do echo "${kind}_temp_path $folder/nginx-$kind;"; done)
  include $folder/site.conf;
}
CONF
start nginx "$nginx" -p "$folder" -c "$folder/nginx.conf"
until_true curl -s "http://127.0.0.1:$port/healthz"
echo "serving at http://localhost:$port; each person sends a key:"
echo "  ANTHROPIC_BASE_URL=http://localhost:$port ANTHROPIC_CUSTOM_HEADERS='x-ccr-key: …' claude"
wait -n "${pids[@]}"
echo "run.sh: something ended by itself; see $folder/*.log" >&2
exit 1
