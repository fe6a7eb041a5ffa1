"""The model store: published checkpoints on disk, each a card and the weights that it describes."""
