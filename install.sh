#!/bin/sh
# Installs `stream` from this checkout, upgrades an earlier installation, or removes it.
#
#   ./install.sh [--prefix DIR]               into DIR/bin, DIR/lib/stream, DIR/share (default ~/.local)
#   ./install.sh [--prefix DIR] --uninstall   removes all of that; data is kept
#
# Needs: node 20 or later and npm, to fetch packages and to build. The program itself runs on Node 24: the host's
# where it is new enough, else the one that the npm package `node` brings.
set -eu

prefix=${HOME:?HOME is not set}/.local
action=install

usage() {
  sed -n '4,5s/^# *//p' "$0"
}

fail() {
  echo "install.sh: $1" >&2
  exit "${2:-1}"
}

while [ $# -gt 0 ]; do
  case $1 in
    --prefix)
      [ $# -ge 2 ] || fail '--prefix needs a directory' 2
      prefix=$2
      shift
      ;;
    --prefix=*) prefix=${1#--prefix=} ;;
    --uninstall) action=uninstall ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) fail "unknown argument: $1; try: ./install.sh --help" 2 ;;
  esac
  shift
done
case $prefix in
  '') fail '--prefix needs a directory' 2 ;;
  /*) ;;
  *) prefix=$PWD/$prefix ;;
esac

library=$prefix/lib/stream
launcher=$prefix/bin/stream
manual=$prefix/share/man
# What was put outside of the library, a path a line.
list=$library/INSTALLED

stop_daemon() {
  # Only the daemon that this user would reach by default, and only if it answers.
  if [ -x "$launcher" ] && "$launcher" daemon status >/dev/null 2>&1; then
    echo "install.sh: stopping the running daemon"
    "$launcher" daemon stop >/dev/null || fail 'the running daemon could not be stopped; try: stream daemon stop'
    return 0
  fi
  return 1
}

remove_listed() {
  [ -f "$1" ] || return 0
  while IFS= read -r path; do rm -f "$path"; done <"$1"
}

if [ "$action" = uninstall ]; then
  [ -e "$library" ] || [ -e "$launcher" ] || fail "nothing is installed under $prefix" 3
  stop_daemon || true
  remove_listed "$list"
  rm -rf "$library" "$launcher"
  echo "removed stream from $prefix; data is kept in ${XDG_DATA_HOME:-$HOME/.local/share}/stream"
  exit 0
fi

cd "$(dirname "$0")"
command -v npm >/dev/null || fail 'npm is not on PATH; install Node.js 20 or later with npm'
command -v node >/dev/null || fail 'node is not on PATH; install Node.js 20 or later'

echo "install.sh: fetching packages"
# Not `npm ci`: it refuses a lock file that lacks an optional package of a foreign platform.
npm install --no-save --no-audit --no-fund --loglevel=error >&2

# npm's own node, which package-lock.json names; the host's node is used where it is new enough.
brought=$PWD/node_modules/node/bin/node
if [ "$(node -p 'Number(process.versions.node.split(".")[0]) >= 24')" = true ]; then
  runtime=$(node -p 'process.execPath')
elif [ -x "$brought" ] && "$brought" --version >/dev/null 2>&1; then
  runtime=$brought
else
  fail "no Node 24: the host has $(node --version) and the npm package node brought none (were install scripts switched off? try: npm rebuild node)"
fi

echo "install.sh: building"
"$runtime" build/build.mjs

mkdir -p "$prefix/lib" "$prefix/bin"
new=$library.new
old=$library.old
rm -rf "$new" "$old"
mkdir -p "$new/node_modules"
cp -R dist "$new/"
if [ "$runtime" = "$brought" ]; then
  cp -L "$runtime" "$new/node"
  runtime=$library/node
fi
# What stays outside the bundle: packages with native code, and what they load. Of zeromq the bundle loads one file.
"$brought" -e '
  const fs = require("node:fs"), path = require("node:path")
  const [from, to, addon] = process.argv.slice(1)
  const seen = new Set()
  const copy = (name) => {
    const source = path.join(from, name)
    if (seen.has(name) || !fs.existsSync(source)) return
    seen.add(name)
    fs.cpSync(source, path.join(to, name), { recursive: true, dereference: true })
    const manifest = JSON.parse(fs.readFileSync(path.join(source, "package.json"), "utf8"))
    for (const next of Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies })) copy(next)
  }
  for (const name of ["lmdb", "@node-rs/crc32", "lz4-napi", "snappy"]) copy(name)
  const file = path.join(to, addon)
  fs.mkdirSync(path.dirname(file), { recursive: true })
  fs.copyFileSync(path.join(from, addon), file)
' "$PWD/node_modules" "$new/node_modules" "$(cat dist/ZEROMQ_ADDON)"

cp -R install "$new/"
# What an earlier version put elsewhere and this one may not have.
remove_listed "$list"
[ -e "$library" ] && mv "$library" "$old"
mv "$new" "$library"
rm -rf "$old"

# The first line names the interpreter, so that starting a command costs no shell; the link keeps the program's own
# directory findable. One thread of V8 beside the command's own: a command is one of several in a pipe, and with four each
# they keep those waiting that carry records (src/io/daemon-process.ts). A path that is too long or has a blank in it cannot stand there and gets a shell in front.
rm -f "$launcher.new"
case $runtime in
  *[[:space:]]*) plain=no ;;
  *) plain=yes ;;
esac
if [ $plain = yes ] && [ ${#runtime} -lt 100 ]; then
  {
    printf '#!%s --v8-pool-size=1\n' "$runtime"
    tail -n +2 dist/stream.cjs
  } >"$library/dist/stream.cjs"
  chmod 755 "$library/dist/stream.cjs"
  ln -s "$library/dist/stream.cjs" "$launcher.new"
else
  printf '#!/bin/sh\nexec "%s" --v8-pool-size=1 "%s" "$@"\n' "$runtime" "$library/dist/stream.cjs" >"$launcher.new"
  chmod 755 "$launcher.new"
fi
mv -f "$launcher.new" "$launcher"

# place FILE DIRECTORY [NAME]: a copy, with the paths of this installation in it, and a line in the list.
place() {
  mkdir -p "$2"
  sed -e "s|@STREAM@|$launcher|g" -e "s|@HOME@|$HOME|g" "$1" >"$2/${3:-$(basename "$1")}"
  printf '%s\n' "$2/${3:-$(basename "$1")}" >>"$list"
}
for page in "$library"/dist/man/*.1; do place "$page" "$manual/man1"; done
for page in "$library"/dist/man/*.7; do place "$page" "$manual/man7"; done
mkdir "$library/completion"
for shell in bash zsh fish; do "$launcher" completion $shell >"$library/completion/$shell"; done
place "$library/completion/bash" "$prefix/share/bash-completion/completions" stream
place "$library/completion/zsh" "$prefix/share/zsh/site-functions" _stream
place "$library/completion/fish" "$prefix/share/fish/vendor_completions.d" stream.fish
# Units are put where systemd and launchd look, and switched on by nobody.
case $(uname) in
  Linux)
    if [ "$prefix" = "$HOME/.local" ]; then
      place "$library/install/stream.user.service" "${XDG_DATA_HOME:-$HOME/.local/share}/systemd/user" stream.service
    else
      place "$library/install/stream.user.service" "$prefix/lib/systemd/user" stream.service
      place "$library/install/stream.service" "$prefix/lib/systemd/system"
    fi
    ;;
  Darwin) place "$library/install/stream.plist" "$HOME/Library/LaunchAgents" stream.daemon.plist ;;
esac

# Proof: records through a real daemon, in a directory of its own.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -m 700 "$scratch/run"
try() {
  env -u STREAM_BROKER -u STREAM_CONTEXT -u STREAM_DATA HOME="$scratch" XDG_DATA_HOME="$scratch/data" \
    XDG_STATE_HOME="$scratch/state" XDG_CONFIG_HOME="$scratch/config" XDG_RUNTIME_DIR="$scratch/run" "$launcher" "$@"
}
echo "install.sh: seq 1000 | stream produce numbers && stream cat numbers | tail -1"
seq 1000 | try produce numbers || fail 'the first records could not be produced'
seen=$(try cat numbers | tail -1)
try daemon stop >/dev/null || fail 'the daemon of the proof could not be stopped'
echo "$seen"
[ "$seen" = 1000 ] || fail "expected 1000, saw: ${seen:-nothing}"

echo "installed $("$launcher" --version) as $launcher"
if "$launcher" daemon status >/dev/null 2>&1; then
  echo "note: the daemon that runs now is still the one from before; to change over: stream daemon stop && stream daemon start"
fi
case :$PATH: in
  *:"$prefix/bin":*) ;;
  *) echo "note: $prefix/bin is not on your PATH; add: export PATH=\"$prefix/bin:\$PATH\"" ;;
esac
