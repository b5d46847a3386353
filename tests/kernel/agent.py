#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs in the guest: what it is told through its port, one command after the other, each to its end.

A call and its answer are lines of JSON: {"argv": [...], "input": "...", "timeout": seconds}; {"status", "stdout", "stderr"}."""
import glob
import json
import os
import pathlib
import signal
import subprocess

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "TZ": "UTC",
               "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0", "PYTHONDONTWRITEBYTECODE": "1"}


def device():
    (name,) = glob.glob("/sys/class/virtio-ports/*/name")
    return "/dev/" + pathlib.Path(name).parent.name


def run(call):
    try:
        process = subprocess.Popen(call["argv"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   errors="replace", env=ENVIRONMENT, start_new_session=True)
    except OSError as error:
        return {"status": 127, "stdout": "", "stderr": str(error)}
    try:
        stdout, stderr = process.communicate(call["input"], call["timeout"])
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        stderr += f"\nkilled after {call['timeout']} s"
    return {"status": process.returncode, "stdout": stdout, "stderr": stderr}


def main():
    with open(device(), "r+b", buffering=0) as port:
        answer, data = {"booted": True}, b""
        while True:
            rest = json.dumps(answer).encode() + b"\n"
            while rest:
                rest = rest[port.write(rest):]
            while b"\n" not in data:
                more = port.read(65536)
                if not more:
                    return
                data += more
            line, data = data.split(b"\n", 1)
            answer = run(json.loads(line))


main()
