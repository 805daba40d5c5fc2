"""A stand-in for Hailo's Dataflow Compiler that speaks its documented API and nothing else; see ../../README.md."""

import sys
from importlib.metadata import version

from fake_dfc import log
from fake_dfc.switches import switches

__version__ = version("hailo-dataflow-compiler")

if switches().asks_at_import:
    log.warning("This system does not meet the requirements of the Dataflow Compiler: RAM")
    sys.stdout.write("Continue? [Y/n]\n")
    sys.stdout.flush()
    if sys.stdin.readline() not in ("\n", "y\n", "Y\n"):  # the end of the input is no answer
        sys.exit("System requirements check failed")

if switches().has_gpu:
    log.info("No GPU chosen, Selected GPU 0")
else:
    log.info("No GPU chosen and no suitable GPU found, falling back to CPU.")

from hailo_sdk_client.exposed_definitions import InferenceContext as InferenceContext
from hailo_sdk_client.exposed_definitions import _JoinAction as JoinAction
from hailo_sdk_client.runner.client_runner import ClientRunner as ClientRunner

__all__ = ["ClientRunner", "InferenceContext", "JoinAction"]
