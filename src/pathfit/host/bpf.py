"""A tracing program in the kernel, through the system's libbpf: load it, hear its events, take it away.

Needs CAP_BPF and CAP_PERFMON (or root), BTF (/sys/kernel/btf/vmlinux, CONFIG_DEBUG_INFO_BTF) and libbpf.so.1. What is
attached hangs on descriptors of this process: however it ends, the kernel takes the program away with them.
"""

import ctypes
import errno
import os
from collections.abc import Collection
from ctypes import c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any, NamedTuple

LIBRARIES = ("libbpf.so.1",)
BTF = "/sys/kernel/btf/vmlinux"
KIND_ENUM = 6  # BTF_KIND_ENUM
MOST_REASONS = 4096
AT_ONCE = 8192  # records that are read in one go

_SIGNATURES: dict[str, tuple[Any, ...]] = {  # name: result, arguments
    "libbpf_set_print": (c_void_p, c_void_p),
    "bpf_object__open_file": (c_void_p, c_char_p, c_void_p),
    "bpf_object__load": (c_int, c_void_p),
    "bpf_object__close": (None, c_void_p),
    "bpf_object__next_program": (c_void_p, c_void_p, c_void_p),
    "bpf_object__next_map": (c_void_p, c_void_p, c_void_p),
    "bpf_program__name": (c_char_p, c_void_p),
    "bpf_program__set_autoload": (c_int, c_void_p, ctypes.c_bool),
    "bpf_program__attach": (c_void_p, c_void_p),
    "bpf_link__destroy": (c_int, c_void_p),
    "bpf_map__name": (c_char_p, c_void_p),
    "bpf_map__fd": (c_int, c_void_p),
    "bpf_map__set_initial_value": (c_int, c_void_p, c_void_p, c_size_t),
    "bpf_map_lookup_elem": (c_int, c_int, c_void_p, c_void_p),
    "ring_buffer__new": (c_void_p, c_int, c_void_p, c_void_p, c_void_p),
    "ring_buffer__consume": (c_int, c_void_p),
    "ring_buffer__free": (None, c_void_p),
    "btf__load_vmlinux_btf": (c_void_p,),
    "btf__find_by_name_kind": (c_int, c_void_p, c_char_p, c_uint),
    "btf__type_by_id": (c_void_p, c_void_p, c_uint),
    "btf__name_by_offset": (c_char_p, c_void_p, c_uint),
    "btf__free": (None, c_void_p),
}


class Unable(OSError):
    """Why this machine, or this user, cannot trace in the kernel; errno says which: ENOENT (no libbpf, no BTF), EPERM,
    EINVAL (the kernel refuses the program)."""


class Counts(NamedTuple):
    """Packets of the flow that the program saw, and those of them that found no room in the buffer."""

    seen: int
    lost: int


def library() -> Any:
    """libbpf with its functions declared. Raises Unable."""
    for name in LIBRARIES:
        try:
            found = ctypes.CDLL(name, use_errno=True)
        except OSError:
            continue
        for function, (result, *arguments) in _SIGNATURES.items():
            it = getattr(found, function, None)
            if it is None:
                raise Unable(errno.ENOSYS, f"{name} has no {function}: it is too old")
            it.restype, it.argtypes = result, arguments
        found.libbpf_set_print(None)  # it would write to our stderr
        return found
    raise Unable(errno.ENOENT, f"{LIBRARIES[0]} is not installed")


class Program:
    """A loaded and attached program."""

    def __init__(self, path: str, settings: bytes, hooks: Collection[str]) -> None:
        """``path``: the object; ``settings``: what goes into its read-only data; ``hooks``: names of its programs that
        shall run. Raises Unable."""
        if not os.path.exists(BTF):
            raise Unable(errno.ENOENT, "this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)")
        self._lib = library()
        self._links: list[int] = []
        self._ring = None
        self._heard: list[bytes] = []
        self._object = self._checked(self._lib.bpf_object__open_file(os.fsencode(path), None), "open")
        try:
            maps = self._maps()
            code = self._lib.bpf_map__set_initial_value(maps["rodata"], settings, len(settings))
            if code:
                raise Unable(-code, f"settings of {len(settings)} bytes: {os.strerror(-code)}")
            self._attach(hooks)
            self._counts = self._lib.bpf_map__fd(maps["counts"])
            self._told = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)(self._tell)
            events = self._lib.bpf_map__fd(maps["events"])
            told = ctypes.cast(self._told, c_void_p)
            self._ring = self._checked(self._lib.ring_buffer__new(events, told, None, None), "buffer")
        except BaseException:
            self.close()
            raise

    def _maps(self) -> dict[str, int]:
        """Handles of the object's maps by their names; ".rodata" has the object's name in front."""
        found: dict[str, int] = {}
        handle = None
        while handle := self._lib.bpf_object__next_map(self._object, handle):
            found[self._lib.bpf_map__name(handle).decode().rpartition(".")[2]] = handle
        return found

    def _attach(self, hooks: Collection[str]) -> None:
        programs: dict[str, int] = {}
        handle = None
        while handle := self._lib.bpf_object__next_program(self._object, handle):
            programs[self._lib.bpf_program__name(handle).decode()] = handle
        for name, program in programs.items():
            self._lib.bpf_program__set_autoload(program, name in hooks)
        code = self._lib.bpf_object__load(self._object)
        if code:
            raise Unable(-code, f"the kernel does not take the program: {os.strerror(-code)}")
        for name in hooks:
            self._links.append(self._checked(self._lib.bpf_program__attach(programs[name]), f"attach {name}"))

    def _checked(self, pointer: int | None, what: str) -> int:
        if not pointer:
            code = ctypes.get_errno()
            raise Unable(code, f"{what}: {os.strerror(code)}")
        return pointer

    def _tell(self, _context: int, data: int, size: int) -> int:
        """libbpf reads on while anything new is there (ringbuf_process_ring()), on a busy machine for ever; it stops
        when this is negative, behind the record that was handed over."""
        self._heard.append(ctypes.string_at(data, size))
        return 0 if len(self._heard) < AT_ONCE else -1

    def events(self) -> list[bytes]:
        """What has come since the last call, :data:`AT_ONCE` at most: more than the buffer holds. The program wakes
        nobody up: ask every 10 ms or so."""
        self._lib.ring_buffer__consume(self._ring)
        heard, self._heard = self._heard, []
        return heard

    def counts(self) -> Counts:
        return Counts(self._count(0), self._count(1))

    def _count(self, which: int) -> int:
        key, value = c_uint(which), c_uint64()
        self._lib.bpf_map_lookup_elem(self._counts, ctypes.byref(key), ctypes.byref(value))
        return value.value

    def close(self) -> None:
        """Take everything out of the kernel. A second call is harmless."""
        if self._ring:
            self._lib.ring_buffer__free(self._ring)
            self._ring = None
        while self._links:
            self._lib.bpf_link__destroy(self._links.pop())
        if self._object:
            self._lib.bpf_object__close(self._object)
            self._object = 0


def drop_reasons() -> dict[int, str]:
    """Names of this kernel's reasons for a drop ("PKT_TOO_BIG"); their numbers change between kernels, so they are read
    from its own BTF. Empty before 5.17. Raises Unable."""
    lib = library()
    btf = lib.btf__load_vmlinux_btf()
    if not btf:
        raise Unable(ctypes.get_errno() or errno.ENOENT, "this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)")
    try:
        number = lib.btf__find_by_name_kind(btf, b"skb_drop_reason", KIND_ENUM)
        if number < 0:
            return {}
        it = lib.btf__type_by_id(btf, number)
        info = ctypes.cast(it, ctypes.POINTER(c_uint))  # struct btf_type: name, info, size; then struct btf_enum
        count = min(info[1] & 0xFFFF, MOST_REASONS)
        found: dict[int, str] = {}
        for n in range(count):
            name = lib.btf__name_by_offset(btf, info[3 + 2 * n]).decode("ascii", "replace")
            found[info[4 + 2 * n]] = name.removeprefix("SKB_DROP_REASON_").removeprefix("SKB_")
        return found
    finally:
        lib.btf__free(btf)
