#!/bin/sh
# The whole normal test run: what `npm test` does. Installs the packages and the Node 24 runtime that package-lock.json
# names when they are missing or old, builds, checks types, lint and layers, then runs every test.
set -eu
cd "$(dirname "$0")/.."

stamp=node_modules/.package-lock.json
if [ ! -e "$stamp" ] || [ package-lock.json -nt "$stamp" ]; then
  echo "test: installing packages"
  npm install --no-save --no-audit --no-fund --loglevel=error
fi
PATH="$PWD/node_modules/.bin:$PATH"
export PATH

# Foreign programs that ours are tested with. Without them their tests are skipped, each with a word; CI needs etcd.
if [ "${CI:-}" = true ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  missing=
  for pair in kcat:kcat tshark:tshark jq:jq tmux:tmux xxd:xxd socat:socat nc:netcat-openbsd man:man-db systemd-notify:systemd etcd:etcd-server; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
  done
  /usr/bin/python3 -c 'import confluent_kafka' 2>/dev/null || missing="$missing python3-confluent-kafka"
  if [ -n "$missing" ]; then
    echo "test: installing foreign clients:$missing"
    # Servers among them are for tests, which start their own.
    policy=/usr/sbin/policy-rc.d
    [ -e $policy ] && policy= || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy; }
    (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing) \
      >/dev/null 2>&1 || echo "test: some could not be had; their tests are skipped"
    [ -z "$policy" ] || rm -f "$policy"
  fi
fi

npm run --silent build
npm run --silent check
exec vitest run "$@"
