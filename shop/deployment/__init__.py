"""The shop on a machine: its environment, database, key, static files and processes."""
