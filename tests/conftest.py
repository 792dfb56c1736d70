"""The same surroundings for every test, wherever it runs."""

import os

from reconciler.engines.sandbox import server

# A program that a test starts gets the installed package, even where its working folder is the checkout.
os.environ["PYTHONSAFEPATH"] = "1"
# No test may meet a real account.
for name in [name for name in os.environ if name.startswith("BYTENITE_")]:
    del os.environ[name]
# A server looks this often whether it is to stop: most tests start one, and wait for its end.
server._POLL_S = 0.005
