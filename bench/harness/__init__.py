"""Parts that the measurements share: the input, the broker, the contestants' CPU meter, the reports."""
