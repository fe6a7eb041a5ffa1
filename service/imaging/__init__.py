"""Pixels in, pixels out: the one definition of preprocessing, for training and for serving alike.

Knows no torch, no HTTP, no network: arrays and bytes only.
"""
