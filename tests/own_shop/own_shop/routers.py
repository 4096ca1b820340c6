"""This project keeps all its data in the database `main`."""


class MainRouter:
    def db_for_read(self, model, **hints):
        return "main"

    def db_for_write(self, model, **hints):
        return "main"

    def allow_migrate(self, db, app_label, **hints):
        return db == "main"
