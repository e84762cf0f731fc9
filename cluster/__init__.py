"""Where things run: the one place that starts or joins Ray."""
