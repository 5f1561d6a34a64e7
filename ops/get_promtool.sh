#!/bin/sh
# Puts promtool (Debian's package prometheus) into the directory that is named, if there is none:
# the tests of ops/ need it. Only that one program is taken out of the package: nothing is
# installed in the system, and no server is started. Exit code 0, or 1 with a line that says why.
set -u
into=$1

if [ -x "$into/promtool" ] || command -v promtool >/dev/null; then
    exit 0
fi
lacks() {
    echo "promtool is missing ($1): the tests of ops/ are skipped, in CI they fail." >&2
    echo "Put promtool, of Prometheus 2.42 or newer, on the PATH." >&2
    exit 1
}
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || lacks "this is no Debian"

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
fetch() { (cd "$work" && apt-get download -qq prometheus >/dev/null 2>"$work/said"); }
if ! fetch; then
    # The lists of packages are old or not there; only root may renew them
    [ "$(id -u)" = 0 ] || lacks "run 'apt-get update' as root, and make again"
    apt-get update -qq >"$work/said" 2>&1 || lacks "apt-get update: $(tail -n 1 "$work/said")"
    fetch || lacks "apt-get download: $(tail -n 1 "$work/said")"
fi
dpkg-deb --fsys-tarfile "$work"/prometheus_*.deb | tar -x -C "$work" ./usr/bin/promtool || lacks "the package has none"
mv "$work/usr/bin/promtool" "$into/promtool"
