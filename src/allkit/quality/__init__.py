"""Looking at images before and after training: duplicates, faults, coverage."""
