"""A process locked down by the kernel, on Linux: Landlock, a seccomp filter, resource limits. Only Python is needed.

| layer             | what it removes                                                             |
|-------------------|--------------------------------------------------------------------------------|
| no_new_privileges | set-user-id programs give no more rights                                       |
| limits            | CPU seconds, size of a file, open files, data memory (the backstop of a watch)  |
| no_capabilities   | what root may do more than others                                              |
| other_user        | becomes the user nobody, where root grades and nobody can reach Python          |
| no_network        | a network of its own, without any device                                       |
| landlock          | every file but those named; TCP; signals to others                             |
| seccomp           | every system call but those that reading, computing and threads need           |

The restrictions hold for a process and its later children until they end. `find_layers` shows what a machine offers, `lock_down` puts it in force.

Sources: Linux `Documentation/userspace-api/landlock.rst` and `seccomp_filter.rst`; numbers from `asm/unistd_64.h` (x86_64) and
`asm-generic/unistd.h` (aarch64, not run).
"""

import contextlib
import ctypes
import os
import platform
import signal
import struct
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

try:
    import resource
except ImportError:  # Windows
    resource = None

MEBIBYTE = 2**20

# Without any one of these four, a submission could reach what does not belong to it.
FULL = ("no_new_privileges", "limits", "landlock", "seccomp")
LAYERS = ("no_new_privileges", "limits", "no_capabilities", "other_user", "no_network", "landlock", "seccomp")
NOBODY = 65534
MOST_STRETCH = 10  # longest clock time, in multiples of the limit of seconds, if the machine is busy


@dataclass(frozen=True)
class Limits:
    """What one submission may use. VGG-16 and VGG-19 with 224 pixels used 2,164 and 2,185 MiB of memory, and files of 513 and 533 MiB.

    Attributes:
        seconds: Time of each of its processes: clock time for a process that waits; for one that computes, the time in which it had a
            processor, so that a busy machine takes nothing from it. Ten times this limit in clock time ends any process.
        processor_seconds: CPU time of all threads together; by default `seconds` times the cores.
        memory: MiB of resident memory, beyond what TensorFlow itself needs.
        file: MiB of each submitted file, and of each that the process writes.
        disk: MiB of everything that it writes.
        files: Number of files that it writes.
        printed: KiB that it prints.
        threads: Number of threads, in addition to four for each core.
        side: Longest side of the images that a model may ask for, in pixels.
        parameters: Millions of weights of a model.
    """

    seconds: float = 120.0
    processor_seconds: float | None = None
    memory: int = 3072
    file: int = 700
    disk: int = 2048
    files: int = 200
    printed: int = 256
    threads: int = 64
    side: int = 512
    parameters: int = 150

    @property
    def cpu(self) -> int:
        """Whole seconds of CPU time."""
        return max(1, round(self.processor_seconds or self.seconds * (os.cpu_count() or 1)))

    def as_json(self) -> dict[str, Any]:
        """The limits in the form that is given to the processes that enforce them."""
        return asdict(self)


class LockFailed(Exception):
    """A layer could not be put in force; nothing untrusted has been opened.

    Attributes:
        layer: Which of `LAYERS`.
    """

    def __init__(self, layer: str, reason: str):
        super().__init__(f"{layer}: {reason}")
        self.layer, self.reason = layer, reason


def find_layers() -> dict[str, str]:
    """Finds out which layers this machine offers; `pbl.grading.server` then tries them.

    Returns:
        For each of `LAYERS` an empty string, or the reason why it is not available.
    """
    if not sys.platform.startswith("linux"):
        return dict.fromkeys(LAYERS, "this system has none")
    missing = dict.fromkeys(LAYERS, "")
    if _landlock_version() < 1:
        missing["landlock"] = "the kernel has no Landlock (Linux 5.13 and later, where it is switched on)"
    if not _has_seccomp():
        missing["seccomp"] = (
            "the kernel or the container has no seccomp filters, or the processor is neither x86_64 nor aarch64"
        )
    if os.geteuid() != 0:
        missing["no_capabilities"] = "not needed: the grader is not run by root"
        missing["other_user"] = "only root can become another user"
    elif not all(_is_reachable(path) for path in python_paths()):
        missing["other_user"] = "the user nobody cannot reach this Python"
    if not int(_read_status("CapEff") or "0", 16) >> _CAP_SYS_ADMIN & 1:
        missing["no_network"] = "no right to make a network namespace; seccomp closes the network too"
    return missing


def python_paths() -> list[Path]:
    """What a process of this Python reads while it computes: the interpreter, its packages, libraries, this package."""
    paths = [sys.prefix, sys.base_prefix, sys.exec_prefix, *filter(None, sys.path), "/usr", "/lib", "/lib64"]
    # The folder that contains this package may contain anything else too, so it must not be readable as a whole.
    package = Path(__file__).resolve().parent.parent
    found = {Path(path).resolve() for path in paths if Path(path).exists()} - {package.parent}
    return sorted(path for path in {*found, package} if not any(other in path.parents for other in found))


SYSTEM_FILES = (
    "/proc/self /proc/cpuinfo /proc/meminfo /proc/stat /sys/devices/system/cpu /sys/devices/system/node /dev/urandom"
    " /dev/random /etc/ld.so.cache /etc/localtime".split()
)


def _is_reachable(path: Path) -> bool:
    """Whether every user may reach a file or folder, and read it."""
    with contextlib.suppress(OSError):
        return all(parent.stat().st_mode & 0o001 for parent in path.parents) and bool(path.stat().st_mode & 0o004)
    return False


# --- Putting layers in force


def lock_down(
    layers: Sequence[str], readable: Iterable[str | Path], writable: Iterable[str | Path], limits: Limits, parent: int
) -> None:
    """Locks this process down. It must have only one thread, and must not have opened anything untrusted.

    Args:
        layers: Which of `LAYERS`.
        readable: Files and folders that may be read, in addition to what Python and TensorFlow need.
        writable: Folders in which files may be made, read and removed.
        limits: What the process may use.
        parent: Process id of the parent; when it has ended, this process ends too.

    Raises:
        LockFailed: A layer could not be put in force.
    """
    # If memory runs out, the system must end this process, not the grader.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    steps = {
        "no_network": lambda: _call("unshare", _NEW_NETWORK | _NEW_IPC),
        "other_user": _become_nobody,
        "no_capabilities": _drop_capabilities,
        "no_new_privileges": lambda: _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        "limits": lambda: _set_limits(limits, "other_user" in layers),
        "landlock": lambda: _restrict_files([*python_paths(), *SYSTEM_FILES, *readable], writable),
        "seccomp": _filter_calls,
    }
    for layer, put_in_force in steps.items():
        if layer == "limits":  # a change of user has undone the order to end with the parent
            end_with(parent)
        if layer in layers:
            try:
                put_in_force()
            except (OSError, ValueError) as error:
                raise LockFailed(layer, str(error)) from error


def end_with(parent: int) -> None:
    """Lets the system kill this process when its parent has ended, for any reason."""
    _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _become_nobody() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def _set_limits(limits: Limits, is_nobody: bool) -> None:
    data = int(_read_status("VmData")) * 1024
    for name, value in (
        (resource.RLIMIT_CPU, limits.cpu),
        (resource.RLIMIT_FSIZE, limits.file * MEBIBYTE),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        # A second limit: near it TensorFlow dies in many ways. The watch on resident memory decides.
        (resource.RLIMIT_DATA, data + 2 * limits.memory * MEBIBYTE),
        # It counts all threads of a user, so it is meaningful only for the user nobody.
        *([(resource.RLIMIT_NPROC, 4096)] if is_nobody else []),
    ):
        hard = resource.getrlimit(name)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (value, value))


def _read_status(name: str) -> str:
    """A line of this process's status from the system; "" if there is none."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next((line.split()[1] for line in lines if line.startswith(f"{name}:")), "")


def _call(function: str, *arguments: Any) -> int:
    """Calls a function of the C library; numbers as long as a register."""
    words = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    result = getattr(ctypes.CDLL(None, use_errno=True), function)(*words)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")
    return result


_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _PR_CAPBSET_DROP = 1, 38, 22, 24
_NEW_NETWORK, _NEW_IPC = 0x40000000, 0x08000000
_CAP_SYS_ADMIN = 21


def _drop_capabilities() -> None:
    for capability in range(64):
        try:
            _call("prctl", _PR_CAPBSET_DROP, capability, 0, 0, 0)
        except OSError:  # beyond the last that this kernel knows, or we may no longer change it
            break
    header = struct.pack("=Ii", 0x20080522, 0)  # version 3, this process
    _call("capset", ctypes.create_string_buffer(header), ctypes.create_string_buffer(24))


# --- Landlock

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446  # on every architecture
_WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5
_MAKE_DIR, _MAKE_REG, _TRUNCATE = 1 << 7, 1 << 8, 1 << 14
# How many file rights each version of Landlock knows, from the first version: all of them are removed.
_RIGHTS_OF_VERSION = (13, 14, 15, 15, 16)


def _landlock_version() -> int:
    try:
        return _call("syscall", _LANDLOCK_CREATE, None, 0, 1)
    except OSError:
        return 0


def _restrict_files(readable: Iterable[str | Path], writable: Iterable[str | Path]) -> None:
    version = _landlock_version()
    if not version:
        raise OSError("the kernel has none")
    rights = (1 << _RIGHTS_OF_VERSION[min(version, 5) - 1]) - 1
    network = 0b11 if version >= 4 else 0  # bind and connect by TCP
    scoped = 0b11 if version >= 6 else 0  # abstract UNIX sockets, signals
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    attributes = struct.pack("=QQQ", rights, network, scoped)[:size]
    ruleset = _call("syscall", _LANDLOCK_CREATE, ctypes.create_string_buffer(attributes, size), size, 0)
    read = _READ_FILE | _READ_DIR
    write = read | _WRITE_FILE | _MAKE_REG | _MAKE_DIR | _REMOVE_FILE | _REMOVE_DIR | _TRUNCATE
    of_file = _READ_FILE | _WRITE_FILE | _TRUNCATE
    rights_at = [("/dev/null", of_file), *((path, read) for path in readable), *((path, write) for path in writable)]
    for path, allowed in rights_at:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            allowed &= rights if Path(path).is_dir() else rights & of_file
            rule = struct.pack("=Qi", allowed, place)
            _call("syscall", _LANDLOCK_ADD, ruleset, 1, ctypes.create_string_buffer(rule, len(rule)), 0)
        finally:
            os.close(place)
    _call("syscall", _LANDLOCK_RESTRICT, ruleset, 0)
    os.close(ruleset)


# --- seccomp

# name: number on x86_64, number on aarch64 (None: there is no such call).
_ALLOWED = {
    # files, as far as Landlock lets them
    "read": (0, 63), "write": (1, 64), "open": (2, None), "close": (3, 57), "stat": (4, None), "fstat": (5, 80), "lstat": (6, None),
    "poll": (7, None), "lseek": (8, 62), "pread64": (17, 67), "pwrite64": (18, 68), "readv": (19, 65), "writev": (20, 66),
    "access": (21, None), "pipe": (22, None), "select": (23, None), "dup": (32, 23), "dup2": (33, None), "sendfile": (40, 71),
    "flock": (73, 32), "fsync": (74, 82), "fdatasync": (75, 83), "ftruncate": (77, 46), "getdents": (78, None), "getcwd": (79, 17),
    "chdir": (80, 49), "rename": (82, None), "mkdir": (83, None), "rmdir": (84, None), "unlink": (87, None), "readlink": (89, None),
    "umask": (95, 166), "statfs": (137, 43), "fstatfs": (138, 44), "readahead": (187, 213), "getdents64": (217, 61),
    "fadvise64": (221, 223), "epoll_wait": (232, None), "epoll_ctl": (233, 21), "openat": (257, 56), "mkdirat": (258, 34),
    "newfstatat": (262, 79), "unlinkat": (263, 35), "renameat": (264, 38), "readlinkat": (267, 78), "faccessat": (269, 48),
    "pselect6": (270, 72), "ppoll": (271, 73), "epoll_pwait": (281, 22), "eventfd2": (290, 19), "epoll_create1": (291, 20),
    "dup3": (292, 24), "pipe2": (293, 59), "preadv": (295, 69), "pwritev": (296, 70), "renameat2": (316, 276), "statx": (332, 291),
    "copy_file_range": (326, 285), "close_range": (436, 436), "faccessat2": (439, 439),
    # memory
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214), "mremap": (25, 216), "msync": (26, 227),
    "mincore": (27, 232), "madvise": (28, 233), "get_mempolicy": (239, 236), "membarrier": (324, 283), "pkey_mprotect": (329, 288),
    "pkey_alloc": (330, 289), "pkey_free": (331, 290),
    # threads, time, signals to itself
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sched_yield": (24, 124), "nanosleep": (35, 101),
    "getpid": (39, 172), "exit": (60, 93), "wait4": (61, 260), "uname": (63, 160), "gettimeofday": (96, 169), "getrlimit": (97, 163),
    "getrusage": (98, 165), "sysinfo": (99, 179), "times": (100, 153), "getuid": (102, 174), "getgid": (104, 176), "geteuid": (107, 175),
    "getegid": (108, 177), "getppid": (110, 173), "getgroups": (115, 158), "getresuid": (118, 148), "getresgid": (120, 150),
    "sigaltstack": (131, 132), "sched_getparam": (143, 121), "sched_getscheduler": (145, 120), "sched_get_priority_max": (146, 125),
    "sched_get_priority_min": (147, 126), "arch_prctl": (158, None), "gettid": (186, 178), "time": (201, None), "futex": (202, 98),
    "sched_getaffinity": (204, 123), "set_tid_address": (218, 96), "restart_syscall": (219, 128), "clock_gettime": (228, 113),
    "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "exit_group": (231, 94), "set_robust_list": (273, 99),
    "getcpu": (309, 168), "getrandom": (318, 278), "rseq": (334, 293),
}  # fmt: skip
# Allowed if an argument is one of a few; `own`: if it is this process.
_CLONE, _IOCTL, _FCNTL, _PRCTL, _PRLIMIT = (56, 220), (16, 29), (72, 25), (157, 167), (302, 261)
_KILL, _TGKILL = (62, 129), (234, 131)
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5450, 0x5451)  # is it a terminal, how large, bytes to read, close on exec
# Copies, flags, locks; not the receiver of a file's signals (8, 10, 15), nor the size of a pipe (1031).
_FCNTLS = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030)
_PRCTLS = (3, 15, 16, 21, 0x53564D41)  # dumpable?, name of a thread, seccomp?, name of memory
# Calls that C libraries try first but do not need.
_NOT_THERE = ((435, 435), (437, 437))  # clone3, openat2
_LAST_KNOWN = 449

_LOAD, _EQUAL, _ABOVE, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _KILL_PROCESS, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


def _has_seccomp() -> bool:
    if platform.machine() not in _ARCHITECTURES or sys.byteorder != "little" or sys.maxsize < 2**32:
        return False
    number = {"x86_64": 317, "aarch64": 277}[platform.machine()]
    action = ctypes.c_uint32(_ERROR)
    try:
        return _call("syscall", number, 2, 0, ctypes.byref(action)) == 0  # does the kernel have the action?
    except OSError:
        return False


def _filter_calls() -> None:
    which, architecture = _ARCHITECTURES[platform.machine()]

    def step(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("=HBBI", code, if_true, if_false, k & 0xFFFFFFFF)

    allow, refuse = step(_RETURN, _ALLOW), step(_RETURN, _ERROR | _EPERM)
    not_there = step(_RETURN, _ERROR | _ENOSYS)

    def only(number: tuple[int | None, int], argument: int, values: Sequence[int]) -> bytes:
        """Allows a call if the lower half of an argument is one of the values, and its upper half is 0."""
        tests = b"".join(step(_EQUAL, value, len(values) - at) for at, value in enumerate(values))
        body = step(_LOAD, 20 + 8 * argument) + step(_EQUAL, 0, 1, 0) + refuse
        body += step(_LOAD, 16 + 8 * argument) + tests + refuse + allow
        return step(_EQUAL, number[which], 0, len(body) // 8) + body

    program = step(_LOAD, 4) + step(_EQUAL, architecture, 1, 0) + step(_RETURN, _KILL_PROCESS) + step(_LOAD, 0)
    if which == 0:  # the x32 variants of all calls
        program += step(_ABOVE, 0x40000000, 0, 1) + refuse
    program += step(_ABOVE, _LAST_KNOWN + 1, 0, 1) + not_there
    # The most frequent calls come first.
    for numbers in sorted(
        _ALLOWED.values(), key=lambda numbers: numbers not in (_ALLOWED["futex"], _ALLOWED["pread64"])
    ):
        if numbers[which] is not None:
            program += step(_EQUAL, numbers[which], 0, 1) + allow
    for numbers in _NOT_THERE:
        program += step(_EQUAL, numbers[which], 0, 1) + not_there
    # A new thread (0x10000), without a new namespace; nothing that could be a process.
    threads = step(_LOAD, 16) + step(_AND, 0x10000 | 0x7E020080) + step(_EQUAL, 0x10000, 0, 1) + allow + refuse
    program += step(_EQUAL, _CLONE[which], 0, len(threads) // 8) + threads
    program += only(_IOCTL, 1, _IOCTLS) + only(_FCNTL, 1, _FCNTLS) + only(_PRCTL, 0, _PRCTLS) + only(_PRLIMIT, 0, (0,))
    program += only(_KILL, 0, (os.getpid(),)) + only(_TGKILL, 0, (os.getpid(),))
    program += refuse

    code = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
    _call("prctl", _PR_SET_SECCOMP, 2, header, 0, 0)
