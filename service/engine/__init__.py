"""From a checkpoint to answers: engines, the batcher that feeds them, and the segmenter that serves one upload."""
