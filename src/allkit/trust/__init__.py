"""Whether an answer may be trusted: verdicts, calibration, out-of-distribution detection."""
