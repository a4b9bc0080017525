"""Keeps one embedded server alive exactly as long as somebody uses it; the program behind `embedded_service`.

Run as `python -I -S service_guard.py SERVICE_DIR SOCKET_DIR STOP_SIGNAL SERVER [ARGUMENT...]`, the server's
configuration on stdin, in a session of its own. Every user of the stack holds a shared lock on `users.lock`,
which the kernel gives up for a process however it ends. The guard asks to have that lock alone; when it has,
nobody is left: it stops the server.

It lives as long as the stack runs, so it imports next to nothing: a megabyte here is one of `platform run`.
"""

import _thread
import fcntl
import os
import signal
import sys
import time

SERVER_RUNS = 75
"""Exit code: another server still holds this folder; ask it instead, or try again."""

_PR_SET_PDEATHSIG = 1
_STOP_SECONDS = 10.0


def _locked(path: str) -> int:
    """An open file with its exclusive lock, or -1 when another process holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return -1
    return fd


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the guard dies (Linux). Not by SIGTERM: a server that takes its
    time to leave would unlink the socket of the one that replaces it."""
    if sys.platform == "linux":
        import ctypes  # in the child only, whose memory exec gives back

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _start(command: list[str], server_lock: int) -> int:
    """Start the server on the configuration at our stdin. It inherits the lock: as long as any process of it
    lives, no second server may open the same files."""
    guard = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _die_with(guard)
            os.set_inheritable(server_lock, True)
            os.execv(command[0], command)
        finally:
            os._exit(127)
    os.close(server_lock)
    return pid


def _stop_when_unused(users_lock: str, server: int, stop: int, unused: list[bool]) -> None:
    fd = os.open(users_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)  # kept until this process is gone: who attaches meanwhile waits for that
    unused.append(True)
    os.kill(server, stop)
    time.sleep(_STOP_SECONDS)
    os.kill(server, signal.SIGKILL)


def _remove(socket_dir: str) -> None:
    try:
        for name in os.listdir(socket_dir):
            os.unlink(os.path.join(socket_dir, name))
        os.rmdir(socket_dir)
    except OSError:
        pass  # nothing depends on its removal: the next start checks and reuses it


def main() -> int:
    service_dir, socket_dir, stop_signal, *command = sys.argv[1:]
    stop = int(stop_signal)
    guard_lock = _locked(os.path.join(service_dir, "guard.lock"))
    server_lock = _locked(os.path.join(service_dir, "server.lock"))
    if guard_lock < 0 or server_lock < 0:
        return SERVER_RUNS
    server = _start(command, server_lock)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.kill(server, stop))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    unused: list[bool] = []
    users_lock = os.path.join(service_dir, "users.lock")
    _thread.start_new_thread(_stop_when_unused, (users_lock, server, stop, unused))
    os.waitpid(server, 0)
    if unused or _locked(users_lock) >= 0:  # else it died under its users, who will start it on this socket
        _remove(socket_dir)
    return 0


if __name__ == "__main__":
    os._exit(main())  # not by sys.exit: the other thread is in a blocking call
