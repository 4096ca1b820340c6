from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models


class Person(AbstractBaseUser, PermissionsMixin):
    """A user without a user name, and with a key that isn't a number."""

    email = models.EmailField(primary_key=True)

    objects = BaseUserManager()

    is_staff = True
    USERNAME_FIELD = "email"

    def __str__(self) -> str:
        return self.email
