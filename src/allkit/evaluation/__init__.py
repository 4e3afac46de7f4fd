"""What answers are worth: metrics, intervals, comparison, leakage, shortcuts, agreement of files."""
