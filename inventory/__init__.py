"""Limited stock that can't be oversold: products, reservations, and the law that holds for them.

    received = available + held + sold

The project around it uses only the modules in DOORS. The app imports nothing
from the project. Where to start reading: ``reservations``, then ``stock``, then ``strategies``.

Two more packages stand beside this one, which doesn't need them: ``inventory.experiments``, an
app that shows which strategies oversell and how fast each is, and ``inventory.races``, a library
that tries every order of the statements of racing callers.
"""

DOORS = {
    "models": "the tables, and the queries that have a name",
    "reservations": "reserve, confirm, prolong, release, return, take back what has lapsed",
    "stock": "receive, remove, repair",
    "strategies": "the ways of taking stock, and how to write another one",
    "snapshots": "the state of a product or a buyer at one instant",
    "locking": "the locks that all functions take, and their order, for steps of your own",
    "law": "that sum, as a sentence, in numbers and in SQL",
    "database": "where the stock is kept: a connection, and transactions on it",
    "monitor": "the law, checked",
    "alerts": "alerts for the merchant, raised and resolved",
    "signals": "what was reserved and how fast, for those who count it",
    "exceptions": "what is refused, and why",
    "postgres_errors": "PostgreSQL's codes of errors",
    "words": "numbers of things in words",
    "conf": "the settings",
    "import_files": "CSV files between their preview and their import",
    "admin": "the pages of Django's admin, for a project to build on",
    "management": "the base of all commands",
}
"""The public modules, and what each is for."""
