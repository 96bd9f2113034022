#!/bin/sh
# unpacked.sh NAME PACKAGE...   Debian packages with what they need, downloaded and unpacked, never installed.
# Prints the folder, whose /usr a lab host lays over its own: what would take over this machine's network if it were
# installed (network managers) runs in there alone. A second call finds what the first one made; without a PACKAGE
# nothing is made.
set -eu
name=$1
shift
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pathfit/unpacked
made=$cache/$name
if [ ! -e "$made/.complete" ]; then
  [ $# -gt 0 ] || { echo "there is no $made; please type: make engines-setup" >&2; exit 1; }
  mkdir -p "$cache"
  exec 9>"$cache/.lock"
  flock 9 # one at a time: whatever parts there are now are of calls that were killed
  rm -rf "$cache/$name".??????
fi
if [ ! -e "$made/.complete" ]; then
  part=$(mktemp -d "$cache/$name.XXXXXX")
  trap 'rm -rf "$part"' EXIT
  trap 'exit 130' INT TERM
  mkdir -p "$part/debs/partial" "$part/root"
  fetch() {
    apt-get install --reinstall --download-only -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 \
      -o APT::Sandbox::User=root -o Dir::Cache::archives="$part/debs" "$@" </dev/null >/dev/null 2>&1
  }
  fetch "$@" || {
    apt-get update -qq -o DPkg::Lock::Timeout=300 </dev/null >&2
    fetch "$@" || { echo "cannot download $*: apt-get install --download-only $*" >&2; exit 1; }
  }
  for deb in "$part"/debs/*.deb; do dpkg -x "$deb" "$part/root"; done
  for top in bin lib lib64 sbin; do # the links of a merged /usr (file-hierarchy(7))
    [ ! -d "$part/root/$top" ] || { mkdir -p "$part/root/usr/$top"; cp -a "$part/root/$top/." "$part/root/usr/$top/"; }
    rm -rf "${part:?}/root/$top"
  done
  mkdir -p "$part/root/etc"
  chmod 755 "$part/root"
  touch "$part/root/.complete"
  rm -rf "$made"
  mv "$part/root" "$made"
fi
echo "$made"
