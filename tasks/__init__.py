"""One Prefect task for each stage, about ten lines each: names, retries and states around one call of the domain."""

from tasks.benchmark import benchmark
from tasks.check import check
from tasks.compile import compile_joined
from tasks.couple import couple
from tasks.fetch import fetch
from tasks.forecast import forecast
from tasks.join import join
from tasks.parse import parse
from tasks.publish import publish
from tasks.quantize import quantize
from tasks.read import read
from tasks.repair import repair
from tasks.score import score

__all__ = [
    "benchmark",
    "check",
    "compile_joined",
    "couple",
    "fetch",
    "forecast",
    "join",
    "parse",
    "publish",
    "quantize",
    "read",
    "repair",
    "score",
]
