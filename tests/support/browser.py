# SPDX-License-Identifier: MIT
"""A headless Chromium, by the DevTools protocol over a pair of pipes: no port, no library, and nothing fetched."""
import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

from waiting import PATIENCE

PROGRAM = shutil.which("chromium")
STARTS = 3  # one in some hundred never gets so far that it hears the first call


class NoAnswer(AssertionError):
    """In all the time that there is."""


class Browser:
    """One page. `console` is what it complained about, `requests` what it asked for beside the page itself."""

    def __init__(self):
        self.console, self.requests = [], []
        for left in reversed(range(STARTS)):
            self._start()
            try:
                target = self.call("Target.createTarget", url="about:blank")["targetId"]
                break
            except NoAnswer:
                self._end()
                if not left:
                    raise
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def _start(self):
        self.profile = tempfile.mkdtemp(prefix="portledger-browser.")
        down, self.to = os.pipe()
        self.back, up = os.pipe()

        def arrange():  # the browser reads calls on descriptor 3 and writes replies on 4
            low, high = os.dup(down), os.dup(up)
            os.dup2(low, 3)
            os.dup2(high, 4)

        self.process = subprocess.Popen(
            [PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--disable-sync",
             "--remote-debugging-pipe", f"--user-data-dir={self.profile}", "about:blank"],
            preexec_fn=arrange, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL, start_new_session=True)
        os.close(down)
        os.close(up)
        self.data, self.number, self.events, self.session = b"", 0, [], None

    def close(self):
        self.session = None
        try:
            self.call("Browser.close")
            self.process.wait(PATIENCE)
        except (OSError, AssertionError, subprocess.TimeoutExpired):
            pass
        self._end()

    def _end(self):
        """Of all its processes, which are a session of their own, if it has not gone; and of what it left."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self.to)
        os.close(self.back)
        shutil.rmtree(self.profile, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _message(self, deadline):
        while b"\0" not in self.data:
            ready, _, _ = select.select([self.back], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise NoAnswer("the browser does not answer")
            chunk = os.read(self.back, 1 << 20)
            assert chunk, "the browser has gone"
            self.data += chunk
        frame, _, self.data = self.data.partition(b"\0")
        return json.loads(frame)

    def _note(self, message):
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Log.entryAdded":
            self.console.append(parameters["entry"]["text"])
        elif method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.console.append(json.dumps(parameters))
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        self.events.append(method)

    def call(self, method, **parameters):
        self.number += 1
        call = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            call["sessionId"] = self.session
        os.write(self.to, json.dumps(call).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            message = self._message(deadline)
            if message.get("id") == self.number:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def open(self, path, width=1100, height=900, media="screen", scheme="light"):
        self.console, self.requests, self.events = [], [], []
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
        self.call("Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}])
        url = f"file://{path}"
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + PATIENCE
        while "Page.loadEventFired" not in self.events:
            self._note(self._message(deadline))
        self.requests = [r for r in self.requests if r != url]

    def run(self, script):
        """The value of an expression in the page: of the test's, since a report has no script."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def screenshot(self, path):
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True,
                         clip={"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 6000), "scale": 1})["data"]
        with open(path, "wb") as f:
            f.write(base64.b64decode(data))

    def pdf(self):
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])
