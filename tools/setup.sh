#!/bin/sh
# setup.sh [--all | --engines]: makes .venv with the command .venv/bin/pathfit, and sees to the programs that labs need.
# As root it installs what is missing; otherwise it prints the exact line to type and goes on as far as it can.
# --all: also what only the benchmarks and the slow tests need. --engines: that, the container engines which
# tests/engines starts in lab hosts of its own, the servers that tests/servers starts in labs, other makers' tunnels,
# QEMU and the kernels it boots (tools/kernels), and a browser. No service is started by anything installed here.
set -eu
cd "$(dirname "$0")/.."

# program (or a file), then its package in Debian/Ubuntu, Fedora, Alpine
NEEDED="ip:iproute2:iproute:iproute2
ss:iproute2:iproute:iproute2
nft:nftables:nftables:nftables
iptables:iptables:iptables-nft:iptables
ethtool:ethtool:ethtool:ethtool
curl:curl:curl:curl
openssl:openssl:openssl:openssl
ping:iputils-ping:iputils:iputils
sysctl:procps:procps-ng:procps
unshare:util-linux:util-linux:util-linux-misc"
MORE="tracepath:iputils-tracepath:iputils:iputils
traceroute:traceroute:traceroute:traceroute
nmap:nmap:nmap:nmap
scamper:scamper:scamper:scamper"
ENGINES="dockerd:docker.io:moby-engine:docker-engine
tini:tini:tini:tini
busybox:busybox-static:busybox:busybox-static
podman:podman:podman:podman
conmon:conmon:conmon:conmon
crun:crun:crun:crun
netavark:netavark:netavark:netavark
aardvark-dns:aardvark-dns:aardvark-dns:aardvark-dns
containerd:containerd:containerd:containerd
host-local:containernetworking-plugins:containernetworking-plugins:cni-plugins
chromium:chromium:chromium:chromium"
# Data planes of other makers, which run as processes on any kernel; what boots other kernels (tests/kernels); who else
# reads captures; what builds the tracing program.
TUNNELS="ovs-vswitchd:openvswitch-switch:openvswitch:openvswitch
wireguard-go:wireguard-go:wireguard-go:wireguard-go
wg:wireguard-tools:wireguard-tools:wireguard-tools-wg
openvpn:openvpn:openvpn:openvpn
qemu-system-x86_64:qemu-system-x86:qemu-system-x86-core:qemu-system-x86_64
cpio:cpio:cpio:cpio
depmod:kmod:kmod:kmod
tshark:tshark:wireshark-cli:tshark
clang-14:clang-14:clang:clang
llvm-strip-14:llvm-14:llvm:llvm
/usr/include/bpf/bpf_helpers.h:libbpf-dev:libbpf-devel:libbpf-dev"
# Real servers for tests/servers. Where the program alone has a package, without a service, that one.
SERVERS="nginx:nginx:nginx:nginx
apache2:apache2-bin:httpd:apache2
haproxy:haproxy:haproxy:haproxy
node:nodejs:nodejs:nodejs
postgres:postgresql:postgresql-server:postgresql
mariadbd:mariadb-server-core:mariadb-server:mariadb
dnsmasq:dnsmasq-base:dnsmasq:dnsmasq"

PATH=$PATH:/usr/sbin:/sbin
# Where engines keep what is not for users: netavark, CNI plugins.
PATH=$PATH:/usr/lib/podman:/usr/libexec/podman:/usr/lib/cni:/usr/libexec/cni
for d in /usr/lib/postgresql/*/bin; do [ ! -d "$d" ] || PATH=$PATH:$d; done
python=
for p in python3 python3.14 python3.13 python3.12 python3.11; do
  if command -v $p >/dev/null 2>&1 && $p -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then python=$p; break; fi
done
[ -n "$python" ] || { echo "pathfit needs python3 >= 3.11, and there is none on the PATH" >&2; exit 1; }

missing() { # missing COLUMN: packages that are not there, in the words of one distribution
  {
    printf '%s\n' "$NEEDED"
    [ "$ALL" = 0 ] || printf '%s\n' "$MORE"
    [ "$ENGINE" = 0 ] || printf '%s\n' "$ENGINES" "$SERVERS" "$TUNNELS"
  } | while IFS=: read -r program deb rpm apk; do
    { [ "${program#/}" != "$program" ] && [ -e "$program" ]; } || command -v "$program" >/dev/null 2>&1 || case $1 in deb) echo "$deb" ;; rpm) echo "$rpm" ;; apk) echo "$apk" ;; esac
  done | sort -u
  [ -x .venv/bin/python ] || $python -c 'import ensurepip, venv' 2>/dev/null || case $1 in
    deb) echo "python3-venv" ;;
    rpm) echo "python3-pip" ;;
    apk) echo "py3-pip" ;;
  esac
}

quiet_apt() { # quiet_apt PACKAGE...: installs; for the duration nothing may start a service (policy-rc.d, invoke-rc.d(8))
  policy=/usr/sbin/policy-rc.d
  [ -e $policy ] && mv $policy $policy.pathfit
  trap 'rm -f $policy; [ -e $policy.pathfit ] && mv $policy.pathfit $policy; trap - EXIT INT TERM' EXIT INT TERM
  printf '#!/bin/sh\nexit 101\n' >$policy
  chmod 755 $policy
  options="-qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0"
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086
  { apt-get install $options "$@" </dev/null >/dev/null 2>&1; } || {
    apt-get update -qq -o DPkg::Lock::Timeout=300 </dev/null
    apt-get install $options "$@" </dev/null >/dev/null
  }
  rm -f $policy
  [ -e $policy.pathfit ] && mv $policy.pathfit $policy
  trap - EXIT INT TERM
}

not_at_boot() { # not_at_boot PACKAGE...: nor at the next boot, what we installed for its program alone
  for package in "$@"; do
    case "
$ENGINES
$SERVERS
$TUNNELS" in *":$package:"*) ;; *) continue ;; esac
    dpkg -L "$package" | sed -n 's,^.*/systemd/system/\([^/@]*\.\(service\|socket\|timer\)\)$,\1,p' | while read -r unit; do
      deb-systemd-helper disable "$unit" >/dev/null 2>&1 || :
    done
    [ ! -e "/etc/init.d/$package" ] || update-rc.d "$package" disable >/dev/null 2>&1 || :
  done
}

ALL=0 ENGINE=0
case "${1:-}" in --all) ALL=1 ;; --engines) ALL=1 ENGINE=1 ;; esac
want=$(missing deb | tr '\n' ' ')
if [ -n "$want" ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing: $want"
    # shellcheck disable=SC2086
    quiet_apt $want
    # shellcheck disable=SC2086
    not_at_boot $want
  else
    echo "missing on this system; please type:" >&2
    if command -v dnf >/dev/null 2>&1; then
      echo "  sudo dnf install -y $(missing rpm | tr '\n' ' ')" >&2
    elif command -v apk >/dev/null 2>&1; then
      echo "  doas apk add $(missing apk | tr '\n' ' ')" >&2
    else
      echo "  sudo apt-get install -y --no-install-recommends $want" >&2
    fi
    case " $want" in *" python3-venv "*) exit 1 ;; esac
  fi
fi

if [ "$ENGINE" = 1 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  # Unpacked, not installed: these would keep the machine's own network from its next boot on.
  tools/unpacked.sh managers network-manager netplan.io ifupdown systemd dbus dbus-daemon >/dev/null || :
fi

if [ ! -x .venv/bin/pathfit ] || [ pyproject.toml -nt .venv/.complete ]; then
  echo "making .venv ($($python -V))"
  $python -m venv .venv
  .venv/bin/python -m pip install -q --disable-pip-version-check -e '.[dev]' </dev/null
  touch .venv/.complete
fi
# Other kernels are fetched and unpacked, never installed; without them tests/kernels has nothing to boot.
[ "$ENGINE" = 0 ] || sh tools/kernels || :
# Byte code ahead of time, where the environment forbids Python to write it later: a tenth of a second per command.
.venv/bin/python -m compileall -q .venv/lib/python3*/site-packages/[a-zA-Z]* src >/dev/null 2>&1 || :
echo "$(.venv/bin/pathfit --version) is ready: .venv/bin/pathfit"
