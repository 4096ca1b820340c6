"""An app whose migrations want the locks that test_migrate.py keeps from them."""
