#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A process that makes claims when it is told to. Reads one Python expression a line, evaluates it with the functions
below, prints {"result": ...} or {"error": ...}, as Python. Sockets are kept by name. Ends with its standard input.

Tests start hundreds: what most of them do not need is imported by whoever needs it."""
import os
import socket
import struct
import sys

IPPROTO_UDPLITE = 136
IPPROTO_MPTCP = 262
PR_SET_NAME = 15
PR_SET_PDEATHSIG, SIGKILL = 1, 9
CLONE_FILES = 0x400
SYS_IO_URING_SETUP, SYS_IO_URING_REGISTER = 425, 427  # on every architecture
IORING_REGISTER_FILES = 2
SYS_EXIT = {"x86_64": 60, "aarch64": 93}.get(os.uname().machine)
CLOSING = ("04", "05", "09", "0B")  # as /proc/net/tcp has FIN-WAIT-1 and -2, LAST-ACK and CLOSING
kept = {}

FAMILIES = {"4": socket.AF_INET, "6": socket.AF_INET6}
LOOPBACK = {"4": "127.0.0.1", "6": "::1"}
KINDS = {"tcp": (socket.SOCK_STREAM, 0), "udp": (socket.SOCK_DGRAM, 0), "udplite": (socket.SOCK_DGRAM, IPPROTO_UDPLITE),
         "mptcp": (socket.SOCK_STREAM, IPPROTO_MPTCP)}


def system():
    """ctypes, and the C library."""
    import ctypes
    return ctypes, ctypes.CDLL(None, use_errno=True)


def pid():
    return os.getpid()


def make(name, kind, family="4"):
    kept[name] = socket.socket(FAMILIES[family], *KINDS[kind])
    return kept[name].fileno()


def port(name):
    return kept[name].getsockname()[1]


def bind(name, address, at=0):
    kept[name].bind((address, at))
    return port(name)


def listen(name):
    kept[name].listen(128)
    return port(name)


def listener(name, kind="tcp", family="4", address=None, at=0):
    make(name, kind, family)
    bind(name, LOOPBACK[family] if address is None else address, at)
    return listen(name)


def connect(name, address, at):
    kept[name].connect((address, at))
    return port(name)


def client(name, at, kind="tcp", family="4", address=None):
    make(name, kind, family)
    return connect(name, LOOPBACK[family] if address is None else address, at)


def accept(listener_name, name):
    kept[name], peer = kept[listener_name].accept()
    return peer[1]


def bound(name, kind, family="4", at=0):
    make(name, kind, family)
    return bind(name, LOOPBACK[family], at)


def send(name, address, at):
    """An unconnected UDP send: the kernel binds the socket."""
    kept[name].sendto(b"x", (address, at))
    return port(name)


def close(*names):
    for name in names:
        kept.pop(name).close()


def over(*names):
    """Waits until the other ends of these connections are closed, and that is known here: who closes now is the second."""
    for name in names:
        while kept[name].recv(65536):
            pass


def closing(at):
    """How many connections to this port, over IPv4, are amid their end: what the kernel does of that it does in its own time."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table]
    return sum(int(peer.partition(":")[2], 16) == at and state in CLOSING for _, _, peer, state, *_ in rows[1:])


def reset(name):
    """Closes a connection so that neither end waits: the port is free at once."""
    kept[name].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    close(name)


def close_all():
    close(*list(kept))


def crowd_pairs(listener_name, name, first, count):
    """Loopback connections to our own listener, both ends kept, numbered from `first`. A close of the client frees its
    port at once, without TIME_WAIT, so that counts stay exact."""
    there = kept[listener_name].getsockname()
    for i in range(first, first + count):
        s = kept[f"{name} client {i}"] = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.connect(there)
        kept[f"{name} server {i}"] = kept[listener_name].accept()[0]


def crowd_udp(name, first, count):
    for i in range(first, first + count):
        bound(f"{name} udp {i}", "udp")


def crowd_renew(listener_name, name, pairs, udp):
    """Closes the oldest connections and UDP sockets and makes as many new ones."""
    for kind, count in (("client", pairs), ("udp", udp)):
        numbers = sorted(int(key.rpartition(" ")[2]) for key in kept if key.startswith(f"{name} {kind} "))
        for i in numbers[:count]:
            close(*([f"{name} udp {i}"] if kind == "udp" else [f"{name} client {i}", f"{name} server {i}"]))
        if count and kind == "udp":
            crowd_udp(name, numbers[-1] + 1, count)
        elif count:
            crowd_pairs(listener_name, name, numbers[-1] + 1, count)


def fork():
    """A child that holds every socket that we have, until its standard input (a pipe of ours) ends."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    os.close(read)
    kept[f"child {child}"] = os.fdopen(write, "wb")
    return child


def reap(child):
    close(f"child {child}")
    os.waitpid(child, 0)


def pass_to(name, path):
    """Passes a socket to the actor that waits at `path` (take_from), by SCM_RIGHTS."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        socket.send_fds(s, [b"x"], [kept[name].fileno()])
        s.recv(1)


def take_from(path, name):
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
        s.listen()
        kept["rendezvous"] = s
        connection, _ = s.accept()
        with connection:
            _, fds, _, _ = socket.recv_fds(connection, 1, 1)
            kept[name] = socket.socket(fileno=fds[0])
            connection.sendall(b"x")
        del kept["rendezvous"]
    return port(name)


def put_in_flight(name):
    """Leaves a socket on its way over SCM_RIGHTS: open, and in nobody's table of descriptors."""
    ours, kept[f"{name} on its way"] = socket.socketpair()
    with ours:
        socket.send_fds(ours, [b"x"], [kept[name].fileno()])
    close(name)


def put_in_ring(name):
    """Leaves a socket to an io_uring alone, as a fixed file of it: open, and in nobody's table of descriptors. By number: no
    library is needed for two system calls."""
    ctypes, libc = system()
    ring = libc.syscall(SYS_IO_URING_SETUP, 4, ctypes.create_string_buffer(120))
    if ring < 0:
        raise OSError(ctypes.get_errno(), "io_uring_setup")
    kept[f"{name} in a ring"] = os.fdopen(ring, "rb", closefd=True, buffering=0)
    fds = (ctypes.c_int * 1)(kept[name].fileno())
    if libc.syscall(SYS_IO_URING_REGISTER, ring, IORING_REGISTER_FILES, fds, 1) < 0:
        raise OSError(ctypes.get_errno(), "io_uring_register")
    close(name)


def set_name(raw_hex):
    """comm of this thread (the main one: of the process), from any bytes."""
    ctypes, libc = system()
    if libc.prctl(PR_SET_NAME, ctypes.c_char_p(bytes.fromhex(raw_hex)), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    with open("/proc/self/comm", "rb") as f:
        return f.read()[:-1].hex()


def named_child(raw_hex):
    """A child of that name, bound to a UDP port for as long as we live: its name as the kernel has it, and the port."""
    _, libc = system()
    read, write = os.pipe()
    if os.fork() == 0:
        libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
        os.write(write, f"{set_name(raw_hex)} {bound('u', 'udp')}".encode())
        os.read(os.pipe()[0], 1)  # nobody writes there
    name, at = os.read(read, 100).decode().split(" ")
    os.close(read)
    os.close(write)
    return name, int(at)


def thread_with_own_table(kind="tcp"):
    """A listener that only a thread has: it left the process's table of descriptors first."""
    import threading
    ctypes, libc = system()
    ready, result = threading.Event(), {}

    def run():
        if libc.unshare(CLONE_FILES):
            result["error"] = ctypes.get_errno()
        else:
            s = socket.socket(*((socket.AF_INET,) + KINDS[kind]))
            s.bind(("127.0.0.1", 0))
            s.listen()
            result["port"] = s.getsockname()[1]
            result["socket"] = s
        ready.set()
        threading.Event().wait()

    threading.Thread(target=run, daemon=True).start()
    ready.wait()
    return result["port"]


def leave_leader(name):
    """Ends the main thread only: the process goes on as a thread whose leader is a zombie. Never answers; a thread
    prints the result."""

    def run():
        while True:
            with open("/proc/self/stat", "rb") as f:
                if f.read().rpartition(b")")[2].split()[0] == b"Z":
                    break
        print({"result": port(name)}, flush=True)
        serve()
        os._exit(0)

    import threading
    _, libc = system()
    threading.Thread(target=run).start()
    libc.syscall(SYS_EXIT, 0)


def serve():
    for line in sys.stdin:
        try:
            answer = {"result": eval(line)}  # what the test says is what we are for
        except Exception as error:  # the test wants to know, whatever it is
            answer = {"error": repr(error)}
        print(answer, flush=True)


if __name__ == "__main__":
    serve()
