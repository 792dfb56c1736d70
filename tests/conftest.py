"""The same surroundings for every test, wherever it runs."""

import os

# A program that a test starts gets the installed package, even where its working folder is the checkout.
os.environ["PYTHONSAFEPATH"] = "1"
# No test may meet a real account.
for name in [name for name in os.environ if name.startswith("BYTENITE_")]:
    del os.environ[name]
