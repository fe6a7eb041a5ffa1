"""The AL-Net paper's experiments on one's own machine: its networks, its printed figures, and what we measure."""
