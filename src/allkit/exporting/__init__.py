"""What an exporter is made of: the graph of a model, what its file says of itself, and its answers."""
