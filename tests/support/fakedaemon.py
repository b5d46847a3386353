# SPDX-License-Identifier: MIT
"""A control socket without a daemon behind it: answers what it was told to, for tests of the client. Plain Python."""
import json
import os
import socket
import threading
import time

INTERFACE = "org.portledger.ledger."
HOUR = 3_600_000_000
NIGHT = 1_795_403_527_114_000  # 2026-11-23 03:12:07.114 UTC


def claim(**members):
    """A claim as the interface has it: curl's connection of NIGHT, seen by a sweep every second."""
    whole = {
        "port": 60530, "protocol": "tcp", "family": "ipv4", "netns": 4026531840, "netns_name": None,
        "local_address": "10.0.0.5", "remote_address": "93.184.216.34", "remote_port": 443, "role": "connected",
        "opened_usec": NIGHT, "opened_after_usec": NIGHT - 1_000_000, "closed_usec": NIGHT + 2_300_000,
        "closed_after_usec": NIGHT + 1_300_000, "released_usec": NIGHT + 62_300_000, "pid": 48211, "comm": "curl",
        "exe": "/usr/bin/curl", "uid": 0, "user": None, "unit": "session-3.scope",
        "cgroup": "/user.slice/user-0.slice/session-3.scope", "parent_pid": 48000, "parent_comm": "bash",
        "attribution": "procfd", "source": "sweep", "holders": [],
        "exe_note": None, "count": 1, "ports": None}
    return {**whole, **members}


def recent(**members):
    """The same, ending now: what is of today is shown without its date, and so in less room."""
    shift = time.time_ns() // 1000 // 1000 * 1000 - 3000 - NIGHT
    times = {k: v + shift for k, v in claim().items() if k.endswith("_usec")}
    return claim(**{**times, "closed_usec": NIGHT + shift + 2000, "closed_after_usec": NIGHT + shift + 1000,
                    "released_usec": NIGHT + shift + 2000, **members})


def coverage(since=NIGHT - 7_114_000, until=NIGHT + 52_886_000, **members):
    """A receipt: the minute of NIGHT, watched by sweeps throughout."""
    whole = {"from_usec": since, "until_usec": until, "lost": None, "gaps": [], "complete": False,
             "stretches": [{"from_usec": since, "until_usec": until, "source": "sweep", "interval_usec": 1_000_000,
                            "udp_connect": False, "failures": False}],
             "coalesced": [], "degraded": [], "parts": None}
    return {**whole, **members}


def program(**members):
    whole = {"exe": "/usr/bin/curl", "comm": "curl", "unit": "cron.service", "uid": 0, "user": None, "claims": 12,
             "ports": 11, "remotes": 2, "failures": None, "first_usec": NIGHT, "last_usec": NIGHT + 60_000_000,
             "new": False, "connected": 10, "listening": 1, "bound": 0, "accepted": 1, "shortest_usec": 800,
             "longest_usec": 2_300_000, "busiest_usec": NIGHT - NIGHT % HOUR,
             "slots": [{"from_usec": NIGHT - NIGHT % HOUR, "until_usec": NIGHT - NIGHT % HOUR + HOUR, "claims": 12}],
             "port": None, "protocol": None, "netns": None, "netns_name": None, "hour_usec": None,
             "remotes_estimated": False, "lives_estimated": False}
    return {**whole, **members}


def audit(*programs, **members):
    return {"programs": list(programs), "claims": sum(p["claims"] for p in programs), "ports": 42, "unattributed": 0,
            "omitted": 0, "failures": None, "reasons": {}, "servers": [], "servers_omitted": 0, "coverage": coverage(), **members}


def status(**members):
    whole = {"rung": "sweep", "interval_usec": 1_000_000, "sweeps": 4123, "sweep_cpu_usec": 4_947_600,
             "open_claims": 96, "recorded": 182_113, "lost": None, "gaps": 1, "unattributed": 31,
             "found_only_by_sweep": 0, "lost_ends": None, "udp_connect": False, "failures": False, "database_bytes": 43_200_000, "oldest_usec": NIGHT - 20 * 86_400_000_000,
             "degraded": [], "version": "0.1.0", "watching": True, "ranges": [{"low": 32768, "high": 65535}],
             "ephemeral": {"low": 32768, "high": 60999}, "used": {"tcp": 1204, "udp": 7},
             "processes": [{"name": "capture", "pid": 10, "cpu_usec": 5_200_000, "pss_bytes": 3_200_000},
                           {"name": "ledger", "pid": 11, "cpu_usec": 1_100_000, "pss_bytes": 4_100_000},
                           {"name": "control", "pid": 12, "cpu_usec": 200_000, "pss_bytes": None}]}
    return {**whole, **members}


def explain(**members):
    whole = {"port": 60530, "class": "dynamic", "service": None, "dynamic": True, "ephemeral": True, "reserved": False,
             "watched": True, "ephemeral_range": {"low": 32768, "high": 60999}, "now": [], "last": [claim()],
             "listened": [], "claims_day": 214, "programs_day": 9, "claims_ever": 6120,
             "first_usec": NIGHT - 20 * 86_400_000_000, "median_usec": 38_000, "coverage": coverage()}
    whole = {**whole, **members}
    return {"claims_now": len(whole["now"]), **whole}


def error(name, **parameters):
    return {"error": name, "parameters": parameters}


class FakeDaemon:
    """Listens at `path`. `answers` maps a method's name to what answers it: the parameters of the reply; a whole reply
    (with `error`, say); bytes as they are; a list of these, sent one after the other, all but the last with `continues`
    where they are parameters; or a function of the call's parameters that gives one of them. `calls` is what was asked."""

    def __init__(self, path, answers, mode=0o660):
        self.path, self.answers, self.calls = str(path), answers, []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        os.chmod(self.path, mode)
        self.listener.listen()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()
        os.unlink(self.path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with client:
                try:
                    self._talk(client)
                except OSError:
                    pass  # the client is gone

    def _talk(self, client):
        data = b""
        while True:
            while b"\0" not in data:
                chunk = client.recv(65536)
                if not chunk:
                    return
                data += chunk
            frame, data = data.split(b"\0", 1)
            call = json.loads(frame)
            self.calls.append(call)
            answer = self.answers[call["method"].removeprefix(INTERFACE)]
            if callable(answer):
                answer = answer(call.get("parameters", {}))
            replies = answer if isinstance(answer, list) else [answer]
            for i, reply in enumerate(replies):
                client.sendall(self._frame(reply, continues=i + 1 < len(replies)))
            if isinstance(replies[-1], bytes):
                return  # what comes after raw bytes is up to them: the connection ends

    @staticmethod
    def _frame(reply, continues):
        if isinstance(reply, bytes):
            return reply
        if "error" not in reply:
            reply = {"parameters": reply, **({"continues": True} if continues else {})}
        return json.dumps(reply).encode() + b"\0"
