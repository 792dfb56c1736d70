"""The folders of the checkout that tests and campaigns read."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
CAMPAIGNS = TESTS / "campaigns"
SUPPORT = TESTS / "support"
