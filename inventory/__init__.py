"""Limited stock that can't be oversold: products, reservations, and the law that holds for them.

    received = available + held + sold

The project around it uses what is named in DOORS, and nothing else of it; the app imports nothing
from the project. Where to start reading: ``reservations``, then ``stock``, then ``strategies``.

Two more packages stand beside this one, and it does without them: ``inventory.experiments``, an
app that shows which strategies oversell and how fast each is, and ``inventory.races``, a library
that tries every order of the statements of racing callers.
"""

DOORS = {
    "models": "the tables, and the queries that have a name",
    "reservations": "reserve, confirm, prolong, release, return, take back what has lapsed",
    "stock": "receive, remove, repair",
    "strategies": "the ways of taking stock, and how to write another one",
    "snapshots": "what one instant shows of a product or a buyer",
    "locking": "the locks of the others, for who adds a step to their transaction; their order",
    "law": "that sum, as a sentence, in numbers and in SQL",
    "database": "where the stock is kept: a connection, and transactions on it",
    "monitor": "the law, checked",
    "alerts": "what a merchant must know, raised and resolved",
    "exceptions": "what is refused, and why",
    "postgres_errors": "PostgreSQL's codes of errors",
    "words": "numbers of things in words",
    "conf": "the settings",
    "import_files": "CSV files between their preview and their import",
    "admin": "the pages of Django's admin, for a project to build on",
    "management": "what commands have in common",
}
"""The public modules, and what each is for."""
