"""One image: decoded, its white cells, its statistics, and whether two images show the same field."""

from allkit._moved import forward

__getattr__ = forward(__name__, {"read_image": "allkit.images.decode.read_image"})
