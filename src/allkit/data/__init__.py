"""Sets of images: reading, splitting, and the drawn sample smears."""
