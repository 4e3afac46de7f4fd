"""A small server: images in, answers out, over HTTP."""
