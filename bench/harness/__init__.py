"""What the measurements share: the input, the broker, the contestants' stopwatch, the reports."""
