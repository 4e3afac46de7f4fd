"""The worth of answers: metrics, intervals, comparison, leakage, shortcuts, parity of files."""
