"""From a checkpoint to answers: engines, the batcher that feeds them, and the segmenter that serves one upload."""

import sys

# OpenVINO would report each import to its makers over the network, with a number of the machine that it leaves at home.
# Without this package it reports nothing, nor does NNCF. None is Python's own way to say that there is no such module.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
