"""The Django project, and what a customer sees of it."""
