"""The pen and the three subjects behind `service/training/drawn.py`. Knows numpy and Pillow only."""
