"""How the shop runs on a machine: its environment, database, key, static files, processes."""
