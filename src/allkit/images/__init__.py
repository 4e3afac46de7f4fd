"""One image: decoded, its white cells, its statistics, and whether two images show the same field."""
