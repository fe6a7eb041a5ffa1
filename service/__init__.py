"""alnet-service: from a folder of images and masks to an answered upload."""

__version__ = "0.1.0"
