#!/usr/bin/env bash
# Check the prerequisites of firesteel. As root, install missing Debian packages; otherwise print the first missing one.
#     prerequisites.sh [PYTHON [PACKAGE...]]    optional packages, each with a command of the same name
set -euo pipefail
python=${1:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
  echo "firesteel needs Python 3.11 or newer; $python is $("$python" --version 2>&1 || echo missing). Set PYTHON=/path/to/python3.11." >&2
  exit 1
}

"$python" -c 'import ensurepip, venv' 2>/dev/null || {
  echo "firesteel needs the venv module of $python; install it, e.g. with: apt-get install python3-venv" >&2
  exit 1
}

there() { # there COMMAND PACKAGE: succeed if the command exists; as root, install its package first
  command -v "$1" >/dev/null && return
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return
  echo "installing $2 (no $1 here)" >&2
  apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$2" >&2
}

need() { # need COMMAND PACKAGE
  there "$1" "$2" && return
  echo "firesteel needs $1; install it, e.g. with: apt-get install $2" >&2
  exit 1
}
need java openjdk-17-jdk-headless
need mvn maven

for package in "${@:2}"; do
  there "$package" "$package" || echo "no $package: its tests are skipped; install it, e.g. with: apt-get install $package" >&2
done
