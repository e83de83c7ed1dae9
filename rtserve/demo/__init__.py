"""The whole path on the embedded default: simulated windows to a checked submission, in minutes, without a download."""

from rtserve.demo.outcome import DemoOutcome
from rtserve.demo.path import run_demo
from rtserve.demo.settings import QUICK, DemoSettings

__all__ = ["QUICK", "DemoOutcome", "DemoSettings", "run_demo"]
