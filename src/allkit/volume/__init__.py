"""Answers for very many images: in constant memory, in parts that outlive a killed process."""
