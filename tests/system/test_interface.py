# SPDX-License-Identifier: MIT
"""The interface description is served as it stands in the tree, and every reply is of the types that it declares."""
import time

import pytest

import idl
from conftest import ROOT

pytestmark = pytest.mark.any_rung

NAME = "org.portledger.ledger"
FILE = ROOT / "daemon/control/org.portledger.ledger.varlink"


@pytest.fixture(name="interface", scope="module")
def read_interface():
    return idl.Interface(FILE.read_text(encoding="utf-8"))


def test_description_is_served(daemon):
    info = daemon.call("org.varlink.service.GetInfo")
    assert info["product"] == "portledgerd" and set(info["interfaces"]) == {NAME, "org.varlink.service"}
    for name in info["interfaces"]:
        text = daemon.call("org.varlink.service.GetInterfaceDescription", {"interface": name})["description"]
        assert idl.Interface(text).name == name
    assert daemon.call("org.varlink.service.GetInterfaceDescription", {"interface": NAME})["description"] == \
        FILE.read_text(encoding="utf-8")


def test_replies_are_what_is_declared(daemon, actor, interface):
    at = actor.do("listener('l')")
    actor.do(f"client('c', {at})")
    actor.do("accept('l', 'a')")
    udp = actor.do("bound('u', 'udp', '6')")
    actor.do("fork()")
    now = time.time_ns() // 1000
    window = {"since_usec": now - 60_000_000, "until_usec": now + 1_000_000}
    calls = {
        "Status": [{}], "Sync": [{}], "Doctor": [{}],
        "Explain": [{"port": at}, {"port": udp, "protocol": "udp"}, {"port": 80}],
        "Who": [{"port": at, "from_usec": now - 60_000_000, "until_usec": now + 1_000_000}, {"port": 1, "from_usec": 1, "until_usec": 2}],
        "Claims": [{"open": True}, window, {**window, "limit": 2}, {"open": True, "filter": {"role": "bound"}}],
        "Audit": [window, {"since_usec": 1, "until_usec": 2},
                  *({**window, "by": by} for by in ("program", "unit", "user", "port", "hour", "netns"))],
        "Apps": [{}, {**window, "new": True}, {"name": "python3", "filter": {"role": "bound"}}],
        "Pressure": [{}, {**window, "limit": 1, "filter": {"peer": "127.0.0.1", "protocol": "tcp"}}],
        "Listeners": [{}, {**window, "bound_usec": 0, "filter": {"protocol": "tcp"}}],
        "Activity": [{**window, "step_usec": 30_000_000}],
        "Occupancy": [{**window, "step_usec": 30_000_000}],
        "Annotate": [{"flows": []}, {"flows": [{"at_usec": now, "source": "127.0.0.1", "source_port": at, "destination": "::1",
                                               "destination_port": udp}]}],
        "Receipt": [window], "Released": [{}, window, {"cursor": "r1.5.0"}],
        "Failures": [{}, {**window, "limit": 2, "filter": {"uid": 0}}],
    }
    assert set(calls) | {"Follow"} == set(interface.methods)
    for method, questions in calls.items():
        for parameters in questions:
            interface.check(parameters, interface.methods[method][0], method)
            reply = daemon.call(f"{NAME}.{method}", parameters)
            interface.check(reply, interface.methods[method][1], method)
