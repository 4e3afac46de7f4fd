"""The network as modules of torch: standardisation, heads, weights, and all of it as one module."""
