"""A classifier: what answers and explains, its folder and its description."""
