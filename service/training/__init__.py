"""From a folder of images and masks to a published checkpoint. Never imported by the server."""
