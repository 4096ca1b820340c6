"""One small project for each package: its settings, models and races."""
