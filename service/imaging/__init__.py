"""Pixels in, pixels out: the one definition of preprocessing, for training and for serving alike.

Works on arrays and bytes only: no torch, no HTTP, no networks.
"""
