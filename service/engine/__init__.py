"""From a checkpoint to answers: engines, the batcher that feeds them, and the segmenter that serves one upload."""

import sys

# OpenVINO would report each import to its makers over the network, with an ID of the machine kept in the home folder.
# Without this package neither it nor NNCF reports anything. None is Python's own mark for a module that is not there.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
