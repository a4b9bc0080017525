"""Becomes the embedded PostgreSQL of one stack's folder; what the guard starts in place of the server itself.

Run as `python -I -S postgres_launcher.py BIN_DIR DATA_DIR SOCKET_DIR`, under `server.lock`: no other process of
this PostgreSQL lives. PostgreSQL refuses to run as root; for root this becomes another user first, which keeps
the one right of root's that it needs, to reach files wherever the project is. No folder is opened to others.
"""

import os
import pwd
import shutil
import signal
import struct
import sys

_UNPRIVILEGED = "nobody"
_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
_CAPABILITY_VERSION_3, _CAP_DAC_OVERRIDE = 0x20080522, 1

_LINUX = sys.platform == "linux"

_INITDB = (
    "--username=postgres",
    "--auth=peer",
    "--encoding=UTF8",
    "--no-locale",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    *(("--sync-method=syncfs",) if _LINUX else ()),  # file by file takes a second or more
)
_SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "log",  # not each row that a constraint refuses: whoever sent it is told
    **({"recovery_init_sync_method": "syncfs"} if _LINUX else {}),
}


def _give_away(data: str) -> tuple[int, int]:
    """The user and group that a root's PostgreSQL runs as: whose the data is, so that a `sudo` takes nothing away
    from a user; else the unprivileged user, who gets the data (a copy by root is root's)."""
    if os.path.isdir(data) and (found := os.stat(data)).st_uid:
        return found.st_uid, found.st_gid
    user = pwd.getpwnam(_UNPRIVILEGED)
    if not os.path.isdir(data):
        os.mkdir(f"{data}.new", 0o700)
    for folder in (data, f"{data}.new"):
        for path, _, files in os.walk(folder):
            for name in (".", *files):
                os.chown(os.path.join(path, name), user.pw_uid, user.pw_gid, follow_symlinks=False)
    return user.pw_uid, user.pw_gid


def _become(user: int, group: int) -> None:
    """Leave root behind for good. Source: man 7 capabilities, "Ambient"."""
    guard = os.getppid()
    if _LINUX:
        import ctypes

        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)
    if _LINUX:
        bit = 1 << _CAP_DAC_OVERRIDE
        libc.capset(struct.pack("Ii", _CAPABILITY_VERSION_3, 0), struct.pack("6I", bit, bit, bit, 0, 0, 0))
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # becoming another user has ended what the guard had set
        if os.getppid() != guard:
            sys.exit(1)


def _initialise(bin: str, data: str) -> None:
    """Make the data's folder: whole, or not there at all."""
    new = f"{data}.new"
    code = os.spawnv(os.P_WAIT, f"{bin}/initdb", [f"{bin}/initdb", *_INITDB, "-D", new])
    if code:
        sys.exit(code)
    os.rename(new, data)


def _admit(owner: str, data: str) -> None:
    """Who may connect: the user whose stack this is, as any role. The kernel says who asks, so there are no
    passwords; and nobody else can enter the socket's folder."""
    with open(f"{data}/pg_hba.conf", "w") as file:
        file.write("local all all peer map=owner\n")
    with open(f"{data}/pg_ident.conf", "w") as file:
        file.write(f'owner "{owner}" all\n')


def _name_of_user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        sys.exit(f"PostgreSQL needs a user with a name, and user {os.getuid()} of this machine has none (/etc/passwd)")


def main() -> None:
    bin, data, socket_dir = sys.argv[1:]
    owner = _name_of_user()
    shutil.rmtree(f"{data}.new", ignore_errors=True)
    if os.getuid() == 0:
        _become(*_give_away(data))
    if not os.path.isdir(data):
        _initialise(bin, data)
    _admit(owner, data)
    if os.path.exists(f"{data}/postmaster.pid"):
        os.unlink(f"{data}/postmaster.pid")  # left by one that was killed; its number may be another process's now
    directory = '"' + socket_dir.replace('"', '""') + '"'
    settings = {**_SETTINGS, "unix_socket_directories": directory}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    os.execv(f"{bin}/postgres", [f"{bin}/postgres", "-D", data, *options])


if __name__ == "__main__":
    main()
