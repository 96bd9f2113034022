#!/bin/sh
# isolated.sh CMD...     runs CMD in network, mount and pid namespaces of its own: the only link is lo, /run is empty.
# isolated.sh --check    says nothing and exits 0 where that is possible; otherwise says why, and what would allow it.
# Without root a user namespace is made as well, in which CMD is root. Nothing outside is touched, nothing is left:
# when CMD (or this script) ends, the kernel takes the namespaces away with everything in them.
set -u
PATH=$PATH:/usr/sbin:/sbin # where Debian keeps ip and nft from ordinary users

if [ "${1:-}" = --inside ]; then
  shift
  # Labs write /etc/netns/NAME/resolv.conf, where `ip netns exec` looks: into a copy, so that no machine's /etc changes
  # and an ordinary user (who cannot read all of it, and need not) can do it too.
  mount -t tmpfs -o mode=755,nosuid tmpfs /run && mkdir /run/etc || exit 125
  cp -a /etc/. /run/etc 2>/dev/null || :
  mount --bind /run/etc /etc || exit 125
  mount -t tmpfs -o mode=755,nosuid tmpfs /run || exit 125 # the empty one
  ip link set lo up || exit 125
  export PATHFIT_ISOLATED=1
  unset PATHFIT_STATE # what is up in here is nobody's business outside, and gone with it
  "$@" # not exec: this shell stays process 1 and buries what is orphaned
  exit $?
fi

can() { # can OPTIONS...: whether the kernel lets us, with all that --inside does
  why=$(unshare "$@" --net --mount --pid --fork --kill-child --mount-proc sh -c \
    'mount -t tmpfs tmpfs /run && ip link set lo up && ip link add v0 type veth peer name v1' 2>&1)
}

refused() { # refused LINE...: why, and what would allow it
  printf '%s\n' "$@" >&2
  exit 125
}

if ! command -v unshare >/dev/null 2>&1; then
  refused "namespaces need Linux and util-linux (unshare)"
fi
user=
if [ "$(id -u)" != 0 ] || ! can; then
  user="--user --map-root-user"
  if ! can $user; then
    flag="in a container, this allows them: docker run --privileged"
    [ "$(cat /proc/sys/user/max_user_namespaces 2>/dev/null)" = 0 ] &&
      flag="the kernel allows none to ordinary users: sudo sysctl user.max_user_namespaces=10000"
    [ "$(cat /proc/sys/kernel/unprivileged_userns_clone 2>/dev/null)" = 0 ] &&
      flag="the kernel keeps them from ordinary users: sudo sysctl kernel.unprivileged_userns_clone=1"
    [ "$(cat /proc/sys/kernel/apparmor_restrict_unprivileged_userns 2>/dev/null)" = 1 ] &&
      flag="AppArmor keeps them from ordinary users: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    refused "namespaces are refused here: $(printf %s "$why" | head -n 1)" "$flag"
  fi
fi
[ "${1:-}" = --check ] && exit 0
exec unshare $user --net --mount --pid --fork --kill-child --mount-proc sh "$0" --inside "$@"
