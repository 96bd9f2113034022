#!/bin/sh
# bpf.sh [--check]   builds src/pathfit/capture/bpf/trace.bpf.o, which is committed: whoever uses pathfit needs no clang.
# --check: builds it elsewhere and compares to the byte. Needs clang 14 and libbpf-dev; the object depends on neither
# the kernel that runs nor the place it is built in (CO-RE; -ffile-prefix-map).
set -eu
cd "$(dirname "$0")/../src/pathfit/capture/bpf"
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
clang-14 -target bpf -O2 -g -Wall -Werror -ffile-prefix-map="$PWD"=. -fdebug-compilation-dir=. \
  -isystem "/usr/include/$(uname -m)-linux-gnu" -c trace.bpf.c -o "$made/trace.bpf.o"
llvm-strip-14 -g "$made/trace.bpf.o"
if [ "${1:-}" = --check ]; then
  cmp "$made/trace.bpf.o" trace.bpf.o
else
  cp "$made/trace.bpf.o" trace.bpf.o
fi
